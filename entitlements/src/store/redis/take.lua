-- Decides a charge and counts it, as window.rs does: a window is 60 buckets and the one that has begun.
-- KEYS[1]: what was counted of one subject and meter. ARGV: the cost, how long to keep it (ms), then length (s) and limit of each
-- quota. Returns: allowed, and of the quota that decides: length, limit, remaining, reset (ms), retry (ms).
--
-- The key's string holds a window for each length that was counted in: length, total, count of the newest bucket that was counted
-- in, its number, bytes of what follows; then, oldest first, the buckets before it that are not empty: number modulo 61, and
-- count. One read and one write, and no table: a hash of buckets took three times as long. Nothing is written but by what is
-- counted, so the newest bucket is not empty, and all is there again once it has left the window.
local SLOTS, HEAD, HEAD_BYTES, BUCKET, BUCKET_BYTES = 61, '>I4I4I4dI2', 22, '>BI4', 5
local unpack, pack, sub, floor = struct.unpack, struct.pack, string.sub, math.floor
local cost, keep_ms = tonumber(ARGV[1]), ARGV[2]
local need = cost > 0 and cost or 1
local time = redis.call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local kept = redis.call('GET', KEYS[1]) or ''

local allowed, written, seen_bytes = true, '', 0
local decides, decides_limit, decides_remaining, decides_reset, decides_retry
for i = 3, #ARGV, 2 do
    local length, limit = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
    local width = length * 1000 / 60
    local total, count, counted, past = 0, 0, 0, ''
    local at = 1
    while at < #kept do
        local this, its_total, its_count, its_counted, bytes = unpack(HEAD, kept, at)
        at = at + HEAD_BYTES + bytes
        if this == length then
            total, count, counted, past = its_total, its_count, its_counted, sub(kept, at - bytes, at - 1)
            seen_bytes = seen_bytes + HEAD_BYTES + bytes
            break
        end
    end
    local newest, last = floor(now / width), counted
    if newest - counted >= SLOTS then
        total, count, past = 0, 0, ''
    elseif newest > counted then
        past, count = past .. pack(BUCKET, counted % SLOTS, count), 0
        local at = 1
        while true do
            local slot, of_slot = unpack(BUCKET, past, at)
            -- Ends at the bucket that was the newest at the latest.
            if counted - (counted - slot) % SLOTS > newest - SLOTS then break end
            total, at = total - of_slot, at + BUCKET_BYTES
        end
        if at > 1 then past = sub(past, at) end
    else
        -- A clock that goes back changes nothing.
        newest = counted
    end
    local remaining, retry, reset = total < limit and limit - total or 0, 0, 0
    if total + need > limit then
        -- After what time so much is left that it is allowed.
        local left, most, at = total, limit > need and limit - need or 0, 1
        local leaves = now
        while left > most do
            leaves = newest
            if at < #past then
                local slot, of_slot = unpack(BUCKET, past, at)
                leaves = newest - (newest - slot) % SLOTS
                left, at = left - of_slot, at + BUCKET_BYTES
            else
                left = 0
            end
            leaves = (leaves + SLOTS) * width
        end
        allowed, retry = false, leaves > now and leaves - now or 1
    end
    if total > 0 then reset = (counted + SLOTS) * width - now end
    if cost > 0 then
        written = written .. pack(HEAD, length, total + cost, count + cost, newest, #past) .. past
        if allowed then reset = (newest + SLOTS) * width - now end
    end
    if not decides or retry > decides_retry or (retry == decides_retry and remaining < decides_remaining) then
        decides, decides_limit, decides_remaining, decides_reset, decides_retry = length, limit, remaining, reset, retry
    end
end

if allowed and cost > 0 then
    if seen_bytes < #kept then
        -- Lengths that were not asked about stay as they are.
        local at = 1
        while at < #kept do
            local length, _, _, _, bytes = unpack(HEAD, kept, at)
            local is_asked = false
            for i = 3, #ARGV, 2 do is_asked = is_asked or tonumber(ARGV[i]) == length end
            if not is_asked then
                written = written .. sub(kept, at, at + HEAD_BYTES + bytes - 1)
                keep_ms = math.max(keep_ms, length * 1000 * SLOTS / 60)
            end
            at = at + HEAD_BYTES + bytes
        end
    end
    redis.call('SET', KEYS[1], written, 'PX', keep_ms)
    decides_remaining = decides_remaining - cost
end
return { allowed and 1 or 0, decides, decides_limit, decides_remaining, decides_reset, decides_retry }
