-- Moves or removes outbox marks. It must treat them as write.lua does.
--
-- KEYS: outbox
-- ARGV: for each mark its field and the version below which all is announced
for i = 1, #ARGV, 2 do
  local mark = redis.call('HGET', KEYS[1], ARGV[i])
  if mark then
    if ARGV[i + 1] > string.sub(mark, 21) then
      redis.call('HDEL', KEYS[1], ARGV[i])
    elseif ARGV[i + 1] > string.sub(mark, 1, 20) then
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. string.sub(mark, 21))
    end
  end
end
return 1
