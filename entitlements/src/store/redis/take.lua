-- Decides a charge and counts it, as window.rs does: a window is 60 buckets and the one that has begun.
-- KEYS[1]: a hash of one subject and meter. ARGV: the cost, then length (s) and limit of each quota.
-- Returns: allowed, and of the quota that decides: length, limit, remaining, reset (ms), retry (ms).
local SLOTS = 61
local key, cost = KEYS[1], tonumber(ARGV[1])
local need = math.max(cost, 1)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function counts(w)
    local fields = {}
    for b = w.newest - SLOTS + 1, w.newest do fields[#fields + 1] = w.prefix .. (b % SLOTS) end
    return redis.call('HMGET', key, unpack(fields))
end

-- After how many ms at most `most` are left.
local function falls_to(w, most)
    local left = w.total
    if left <= most then return 0 end
    for i, count in ipairs(counts(w)) do
        left = left - (tonumber(count or 0))
        if left <= most then return (w.newest + i) * w.width - now end
    end
    return 0
end

local windows, allowed = {}, true
for i = 2, #ARGV, 2 do
    local length, limit = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
    local w = { length = length, limit = limit, width = length * 1000 / 60, prefix = length .. ':' }
    local head = redis.call('HMGET', key, w.prefix .. 'n', w.prefix .. 't')
    w.total, w.newest = tonumber(head[1] or 0), tonumber(head[2] or 0)
    local bucket = math.floor(now / w.width)
    if bucket > w.newest then
        if w.total > 0 then
            local fields = {}
            for b = bucket - math.min(bucket - w.newest, SLOTS) + 1, bucket do
                fields[#fields + 1] = w.prefix .. (b % SLOTS)
            end
            for _, count in ipairs(redis.call('HMGET', key, unpack(fields))) do
                w.total = w.total - (tonumber(count or 0))
            end
            redis.call('HDEL', key, unpack(fields))
        end
        w.newest = bucket
        if cost > 0 or w.total > 0 then redis.call('HSET', key, w.prefix .. 'n', w.total, w.prefix .. 't', bucket) end
    end
    w.allowed = w.total + need <= limit
    allowed = allowed and w.allowed
    windows[#windows + 1] = w
end

local decides, decides_retry
for _, w in ipairs(windows) do
    local retry = 0
    if not w.allowed then retry = math.max(falls_to(w, w.limit - need), 1) end
    w.remaining = math.max(w.limit - w.total, 0)
    if not decides or retry > decides_retry or (retry == decides_retry and w.remaining < decides.remaining) then
        decides, decides_retry = w, retry
    end
end

if allowed and cost > 0 then
    local longest = 0
    for _, w in ipairs(windows) do
        redis.call('HINCRBY', key, w.prefix .. (w.newest % SLOTS), cost)
        redis.call('HINCRBY', key, w.prefix .. 'n', cost)
        w.total = w.total + cost
        w.remaining = w.remaining - cost
        longest = math.max(longest, w.length * 1000 + w.width)
    end
    redis.call('PEXPIRE', key, math.ceil(longest))
end
local reset = falls_to(decides, 0)
return { allowed and 1 or 0, decides.length, decides.limit, decides.remaining, math.ceil(reset), math.ceil(decides_retry) }
