-- Gives a place back. KEYS[1]: the set. ARGV[1]: the connection. Returns how many are left.
redis.call('SREM', KEYS[1], ARGV[1])
return redis.call('SCARD', KEYS[1])
