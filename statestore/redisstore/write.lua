-- Replaces the record of one shadow if its version is the expected one, and
-- keeps all that has to be true together with it. Returns 1 if done, also when
-- an earlier attempt of the same write did it, and 0 on a conflict.
--
-- All that can be refused (out of memory, read-only replica, too few replicas)
-- is refused at the first command that writes, so nothing is done by halves.
--
-- KEYS: doc, log, shadows, things, outbox
-- ARGV: expected version, now, record, expires or '', history limit, history age,
--       announce or '', outbox field, shadow, thing, number of announced fields,
--       for each of them the field and the version below which all is announced,
--       history entries
local none = '00000000000000000000'
local doc, log, shadows, things, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local expect, now, record, expires = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local announce, field = ARGV[7], ARGV[8]

local entries = 12 + 2 * tonumber(ARGV[11])
if entries > 12 then
  local fields, gone = {}, {}
  for i = 12, entries - 1, 2 do
    fields[#fields + 1] = ARGV[i]
  end
  local marks = redis.call('HMGET', outbox, unpack(fields))
  for i, mark in ipairs(marks) do
    local below = ARGV[11 + 2 * i]
    if not mark then
      -- it was removed before
    elseif below > string.sub(mark, 21) then
      gone[#gone + 1] = fields[i]
    elseif below > string.sub(mark, 1, 20) then
      redis.call('HSET', outbox, fields[i], below .. string.sub(mark, 21))
    end
  end
  if #gone > 0 then
    redis.call('HDEL', outbox, unpack(gone))
  end
end

local head = redis.call('GETRANGE', doc, 0, 66)
local version, live, modified = none, false, 0
local hour = 3600000
if head ~= '' then
  local ends = tonumber(string.sub(head, 36, 50))
  if ends == 0 or ends > now then
    version = string.sub(head, 1, 20)
    live = string.sub(head, 67, 67) == '-'
    modified = tonumber(string.sub(head, 21, 35))
  end
end
if version ~= expect then
  if head ~= '' and string.sub(head, 51, 66) == string.sub(record, 51, 66) then
    return 1
  end
  return 0
end

redis.call('SET', doc, record)
if version == none then
  redis.call('DEL', log)
end
local limit = tonumber(ARGV[5])
if limit > 0 and #ARGV >= entries then
  local length = 0
  for i = entries, #ARGV, 1000 do
    length = redis.call('RPUSH', log, unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
  if length > limit + limit / 4 then -- readers look at the versions, so this need not be exact
    redis.call('LTRIM', log, -limit, -1)
  end
  -- The time to live is renewed with the first write of an hour, and is an hour longer than asked for.
  if not live or math.floor(modified / hour) ~= math.floor(now / hour) then
    redis.call('PEXPIRE', log, ARGV[6] + hour)
  end
end
if expires ~= '' then
  redis.call('PEXPIREAT', doc, expires)
  redis.call('PEXPIREAT', log, expires)
end

local lives = string.sub(record, 67, 67) == '-'
if lives and not live then
  redis.call('ZADD', shadows, 0, ARGV[9])
  redis.call('ZADD', things, 0, ARGV[10])
elseif live and not lives then
  redis.call('ZREM', shadows, ARGV[9])
  if redis.call('EXISTS', shadows) == 0 then
    redis.call('ZREM', things, ARGV[10])
  end
end

if announce ~= '' then
  local last = string.sub(record, 1, 20)
  if redis.call('HSETNX', outbox, field, announce .. last) == 0 then
    local first = string.sub(redis.call('HGET', outbox, field), 1, 20)
    redis.call('HSET', outbox, field, (first < announce and first or announce) .. last)
  end
end
return 1
