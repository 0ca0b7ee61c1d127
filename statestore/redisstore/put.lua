-- Does the items of a Put in their order. Returns 1 if done, also when an earlier
-- attempt of the same Put did it, and 0 when a later one was done already.
--
-- All that can be refused is refused at the first command that writes, so
-- nothing is done by halves. The names of partitions are made here; they share
-- the hash tag of KEYS[1].
--
-- KEYS: number of the last Put
-- ARGV: number of this one, prefix of names; for each item what to do ('s' set,
--       'd' delete, 'a' delete all), the space, the partition, the key, the value
local last = redis.call('GET', KEYS[1])
if last and last >= ARGV[1] then
  return last == ARGV[1] and 1 or 0
end
redis.call('SET', KEYS[1], ARGV[1])
for i = 3, #ARGV, 5 do
  local index = ARGV[2] .. ARGV[i + 1]
  local partition = index .. ':' .. ARGV[i + 2]
  if ARGV[i] == 's' then
    if redis.call('HSET', partition, ARGV[i + 3], ARGV[i + 4]) == 1 then
      redis.call('SADD', index, ARGV[i + 2])
    end
  else
    if ARGV[i] == 'd' then
      redis.call('HDEL', partition, ARGV[i + 3])
    else
      redis.call('UNLINK', partition)
    end
    if redis.call('EXISTS', partition) == 0 then
      redis.call('SREM', index, ARGV[i + 2])
    end
  end
end
return 1
