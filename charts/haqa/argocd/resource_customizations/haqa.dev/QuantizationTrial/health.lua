-- A trial that fails is part of searching: its tuning says whether anything is wrong.
local status = obj.status
if status == nil or status.phase == nil then
  return {status = "Progressing", message = "Pending"}
end
if status.phase == "Succeeded" then
  local message = obj.spec.summary
  if status.throughput ~= nil then
    message = (message or "") .. ": " .. status.throughput .. " output tokens/s"
  end
  return {status = "Healthy", message = message}
end
if status.phase == "Failed" then
  local failure = status.failure or {}
  return {status = "Degraded", message = (failure.reason or "Failed") .. ": " .. (failure.message or "")}
end
return {status = "Progressing", message = status.phase}
