-- A user's record, whichever way it is kept: the text of a string, the fields of a hash, or nothing.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'string' then return redis.call('GET', KEYS[1]) end
if kind == 'hash' then return redis.call('HGETALL', KEYS[1]) end
return false
