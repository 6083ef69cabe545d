-- Puts a record in the place of an older one, and announces it. KEYS[1]: the record's key. ARGV: the record, its version,
-- the channel. Returns the version that is there afterwards.
local version, there = tonumber(ARGV[2]), 0
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'string' then
    local read, record = pcall(cjson.decode, redis.call('GET', KEYS[1]))
    if read and type(record) == 'table' then there = tonumber(record.version) or 0 end
elseif kind == 'hash' then
    there = tonumber(redis.call('HGET', KEYS[1], 'version') or 0) or 0
end
if there >= version then return there end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return version
