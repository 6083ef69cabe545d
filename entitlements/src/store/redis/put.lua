-- Puts a record in the place of an older one, and announces it. KEYS[1]: the record's key. ARGV: the record, its version,
-- the channel, the version that has to be there or an empty text for any, and names and values for a record that is kept as a
-- hash. Returns whether it was put, 1 or 0.
local version, there = tonumber(ARGV[2]), 0
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'string' then
    local read, record = pcall(cjson.decode, redis.call('GET', KEYS[1]))
    if read and type(record) == 'table' then there = tonumber(record.version) or 0 end
elseif kind == 'hash' then
    there = tonumber(redis.call('HGET', KEYS[1], 'version') or 0) or 0
end
if there >= version or (ARGV[4] ~= '' and there ~= tonumber(ARGV[4])) then return 0 end
if kind == 'hash' then
    redis.call('HSET', KEYS[1], unpack(ARGV, 5))
else
    redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
end
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1
