-- Takes a place among a user's connections. KEYS[1]: the set. ARGV: the connection, how many there may be.
-- Returns 2, or 1 where the connection had its place, or 0 where all places are taken.
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 1 end
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
return 2
