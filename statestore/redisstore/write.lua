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
for i = 12, entries - 1, 2 do
  local mark = redis.call('HGET', outbox, ARGV[i])
  if mark then
    if ARGV[i + 1] > string.sub(mark, 21) then
      redis.call('HDEL', outbox, ARGV[i])
    elseif ARGV[i + 1] > string.sub(mark, 1, 20) then
      redis.call('HSET', outbox, ARGV[i], ARGV[i + 1] .. string.sub(mark, 21))
    end
  end
end

local head = redis.call('GETRANGE', doc, 0, 66)
local version, live = none, false
if head ~= '' then
  local ends = tonumber(string.sub(head, 36, 50))
  if ends == 0 or ends > now then
    version = string.sub(head, 1, 20)
    live = string.sub(head, 67, 67) == '-'
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
  for i = entries, #ARGV, 1000 do
    redis.call('RPUSH', log, unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
  redis.call('LTRIM', log, -limit, -1)
  redis.call('PEXPIRE', log, ARGV[6])
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
  local mark = redis.call('HGET', outbox, field)
  if mark and string.sub(mark, 1, 20) < announce then
    announce = string.sub(mark, 1, 20)
  end
  redis.call('HSET', outbox, field, announce .. string.sub(record, 1, 20))
end
return 1
