-- Replaces the records of some shadows, each if its version is the expected one,
-- and keeps all that has to be true together with it. Returns the writes that were
-- not done: the number of each, and 0 for a conflict or the text of an error. A
-- write that an earlier attempt has done counts as done.
--
-- What Redis refuses altogether (out of memory, read-only replica, too few
-- replicas) is refused at the first command that writes, so nothing is done by halves.
--
-- KEYS: outbox, then the shadow of each write
-- ARGV: now, length of the tag that the names of all keys begin with, number of versions after which the
--       history of a shadow is shortened, most fields that a shadow is to have then,
--       field of the mark or '', mark, number of marks to remove, their fields,
--       then for each write: start of the header that a live record of the expected version has,
--       new header, body, lowest version to keep in the history or '',
--       number of history entries, for each its version and itself
local never = '000000000000000'
local now, tagLength, step, most, gone = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[7])

local function versionOf(header) return string.sub(header, 1, 20) end
local function expiresOf(header) return string.sub(header, 21, 35) end
local function lives(header) return string.sub(header, 36, 36) == '-' end
local function startOf(header) return string.sub(header, 1, 36) end
local function restOf(header) return string.sub(header, 37) end -- with the id of the write

-- Decides about a write whose shadow is not a live record of the expected version.
-- Returns whether it may be done, or else its outcome, which is nil if it was done before.
local function judge(shadow, stored, expect, header)
  if type(stored) == 'table' then
    return false, stored.err
  end
  local version = '00000000000000000000'
  if stored then
    local expires = expiresOf(stored)
    if expires == never or expires > now then
      version = versionOf(stored)
    elseif versionOf(expect) == version then
      redis.call('DEL', shadow)
    end
  end
  if version == versionOf(expect) then
    return true
  end
  if stored and restOf(stored) == restOf(header) then
    return false
  end
  return false, 0
end

-- Writes the record and the history entries ARGV[first] to ARGV[last]. Returns the error, if any.
local function replace(shadow, header, body, first, last)
  local reply
  if last == first + 1 then
    reply = redis.pcall('HSET', shadow, 'v', header, 'd', body, ARGV[first], ARGV[last])
  else
    reply = redis.pcall('HSET', shadow, 'v', header, 'd', body)
  end
  if type(reply) == 'table' then
    return reply.err
  end
  for i = first, last > first + 1 and last or 0, 1000 do
    redis.call('HSET', shadow, unpack(ARGV, i, math.min(i + 999, last)))
  end
end

-- Removes the history of a shadow below a version: the entries of the last step, and if there are more, all.
local function trim(shadow, keep)
  local old = {}
  for version = math.max(keep - step, 1), keep - 1 do
    old[#old + 1] = string.format('%.0f', version)
  end
  redis.call('HDEL', shadow, unpack(old))
  if redis.call('HLEN', shadow) <= most then
    return
  end
  old = {}
  for _, field in ipairs(redis.call('HKEYS', shadow)) do
    local version = tonumber(field)
    if version and version < keep then
      old[#old + 1] = field
    end
  end
  for i = 1, #old, 1000 do
    redis.call('HDEL', shadow, unpack(old, i, math.min(i + 999, #old)))
  end
end

-- Keeps the lists of shadows and things true.
local function list(shadow, live)
  local tag = string.sub(shadow, 1, tagLength)
  local thing, name = string.match(shadow, '^([^ ]*) ?(.*)$', tagLength + 8)
  local shadows, things = tag .. 'shadows:' .. thing, tag .. 'things'
  if live then
    redis.call('ZADD', shadows, 0, name)
    redis.call('ZADD', things, 0, thing)
    return
  end
  redis.call('ZREM', shadows, name)
  if redis.call('EXISTS', shadows) == 0 then
    redis.call('ZREM', things, thing)
  end
end

if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[5], ARGV[6])
end
if gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(ARGV, 8, 7 + gone))
end
local failed = {}
local at = 8 + gone
for i = 2, #KEYS do
  local shadow, expect, header, body, keep = KEYS[i], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local first = at + 5
  local last = first - 1 + 2 * ARGV[at + 4]
  at = last + 1

  local stored = redis.pcall('HGET', shadow, 'v')
  local usual = type(stored) == 'string' and startOf(stored) == expect
  local ok, outcome = usual, nil
  if not usual then
    ok, outcome = judge(shadow, stored, expect, header)
  end
  if ok then
    outcome = replace(shadow, header, body, first, last)
  end
  if outcome then
    failed[#failed + 1] = { i - 1, outcome }
  elseif ok then
    if keep ~= '' then
      trim(shadow, tonumber(keep))
    end
    if lives(header) ~= usual then
      list(shadow, lives(header))
    end
    if expiresOf(header) ~= never then
      redis.call('PEXPIREAT', shadow, string.match(expiresOf(header), '[1-9].*'))
    elseif stored and not usual then
      redis.call('PERSIST', shadow)
    end
  end
end
return failed
