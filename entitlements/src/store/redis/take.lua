-- Decides a charge and counts it, as window.rs does: a window is 60 buckets and the one that has begun.
-- KEYS[1]: a hash of one subject and meter. ARGV: the cost, then length (s) and limit of each quota.
-- Returns: allowed, and of the quota that decides: length, limit, remaining, reset (ms), retry (ms).
--
-- Fields, behind each quota's length: n, the total; t, the newest bucket that was counted in; and the counts, by the bucket's
-- number modulo 61. Nothing is written but by what is counted: so bucket t is not empty, and what is left is there again once
-- that one has left the window.
local SLOTS = 61
local key, cost = KEYS[1], tonumber(ARGV[1])
local need = math.max(cost, 1)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local windows, fields = {}, {}
for i = 2, #ARGV, 2 do
    local w = { length = tonumber(ARGV[i]), limit = tonumber(ARGV[i + 1]), prefix = ARGV[i] .. ':' }
    w.width = w.length * 1000 / 60
    w.newest = math.floor(now / w.width)
    windows[#windows + 1] = w
    fields[#fields + 1] = w.prefix .. 'n'
    fields[#fields + 1] = w.prefix .. 't'
    fields[#fields + 1] = w.prefix .. (w.newest % SLOTS)
end

-- The counts of some buckets, and their fields.
local function counts(w, first, last)
    local fields = {}
    for b = first, last do fields[#fields + 1] = w.prefix .. (b % SLOTS) end
    return redis.call('HMGET', key, unpack(fields)), fields
end

-- After how many ms at most `most` are left.
local function falls_to(w, most)
    local left, first = w.total, w.newest - SLOTS + 1
    if left <= most then return 0 end
    for i, count in ipairs((counts(w, first, w.counted))) do
        left = left - (tonumber(count or 0))
        if left <= most then return (first + i - 1 + SLOTS) * w.width - now end
    end
    return 0
end

local read, gone, allowed = redis.call('HMGET', key, unpack(fields)), {}, true
for i, w in ipairs(windows) do
    w.total, w.counted = tonumber(read[3 * i - 2] or 0), tonumber(read[3 * i - 1] or 0)
    if w.newest > w.counted then
        w.count = 0
        if w.total > 0 then
            local first = math.max(w.counted, w.newest - SLOTS) + 1
            local old, fields = counts(w, first, w.newest)
            for j, count in ipairs(old) do
                if count then
                    w.total = w.total - count
                    gone[#gone + 1] = fields[j]
                end
            end
        end
    elseif w.newest == w.counted then
        w.count = tonumber(read[3 * i] or 0)
    else
        -- The clock has gone back.
        w.newest = w.counted
        w.count = tonumber(redis.call('HGET', key, w.prefix .. (w.newest % SLOTS)) or 0)
    end
    w.allowed = w.total + need <= w.limit
    allowed = allowed and w.allowed
end

local decides, decides_retry
for _, w in ipairs(windows) do
    local retry = 0
    if not w.allowed then retry = math.max(falls_to(w, math.max(w.limit - need, 0)), 1) end
    w.remaining = math.max(w.limit - w.total, 0)
    if not decides or retry > decides_retry or (retry == decides_retry and w.remaining < decides.remaining) then
        decides, decides_retry = w, retry
    end
end

if allowed and cost > 0 then
    if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
    local counted, longest, begins = {}, 0, false
    for _, w in ipairs(windows) do
        begins = begins or w.newest > w.counted
        longest = math.max(longest, w.length * 1000 + w.width)
        w.total, w.counted, w.remaining = w.total + cost, w.newest, w.remaining - cost
        for field, value in pairs({ n = w.total, t = w.newest, [w.newest % SLOTS] = w.count + cost }) do
            counted[#counted + 1] = w.prefix .. field
            counted[#counted + 1] = value
        end
    end
    redis.call('HSET', key, unpack(counted))
    -- What is counted in a bucket leaves the window with it, however late in it that was.
    if begins then redis.call('PEXPIRE', key, longest) end
end
local reset = 0
if decides.total > 0 then reset = (decides.counted + SLOTS) * decides.width - now end
return { allowed and 1 or 0, decides.length, decides.limit, decides.remaining, reset, decides_retry }
