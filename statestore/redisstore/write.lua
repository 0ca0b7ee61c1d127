-- Replaces the record of a shadow if its version is the expected one, and keeps the lists of shadows
-- and things true. Returns 1 when it is done, also by an earlier attempt, 0 for a conflict, and -1 for
-- a conflict that an earlier attempt had not noticed, which is undone.
--
-- What Redis refuses altogether (out of memory, read-only replica, too few replicas) is refused at
-- the first command that writes, so nothing is done by halves.
--
-- KEYS: shadow
-- ARGV: now, length of the tag that the names of all keys begin with,
--       start of the header that a live record of the expected version has, new header,
--       '~' or '=' and the number of commits to keep, id of the commit,
--       then the fields of its entry and their values
local shadow, now, tagLength, expect, header, id = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[7]
local never = '000000000000000'

local function versionOf(h) return string.sub(h, 1, 20) end
local function expiresOf(h) return string.sub(h, 21, 35) end
local function lives(h) return string.sub(h, 36, 36) == '-' end
local function startOf(h) return string.sub(h, 1, 36) end
local function restOf(h) return string.sub(h, 37) end -- with the id of the write

-- Keeps the lists of shadows and things true.
local function list(live)
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

local last = redis.pcall('XREVRANGE', shadow, '+', '-', 'COUNT', 2)
if last.err then
  return last
end
local stored = last[1] and last[1][2][2]
local before = last[2] and last[2][2][2]
local usual = stored and startOf(stored) == expect
if not usual then
  if stored and restOf(stored) == restOf(header) then
    -- Done before, but perhaps without this script and after a version that the writer did not know of.
    if not before or versionOf(before) == versionOf(expect) then
      return 1
    end
    redis.call('XDEL', shadow, id)
    redis.call('XSETID', shadow, last[2][1])
    return -1
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
  if version ~= versionOf(expect) then
    return 0
  end
end
local reply = redis.pcall('XADD', shadow, 'MAXLEN', ARGV[5], ARGV[6], id, unpack(ARGV, 8))
if type(reply) == 'table' and reply.err then
  return reply
end
if lives(header) ~= usual then
  list(lives(header))
end
if expiresOf(header) ~= never then
  redis.call('PEXPIREAT', shadow, string.match(expiresOf(header), '[1-9].*'))
elseif stored and not usual then
  redis.call('PERSIST', shadow)
end
return 1
