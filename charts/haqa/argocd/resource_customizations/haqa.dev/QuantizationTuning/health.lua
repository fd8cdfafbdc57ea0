-- Argo CD runs this without the libraries `string` and `math`: comparisons and `..` are all that is used.
local status = obj.status
if status == nil or status.phase == nil then
  return {status = "Progressing", message = "waiting for the operator"}
end
if obj.metadata.generation ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not seen the latest change"}
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local function holds(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end
local function said(kind)
  local condition = conditions[kind]
  if condition == nil or condition.message == nil or condition.message == "" then
    return status.phase
  end
  return condition.message
end

if holds("Degraded") then
  return {status = "Degraded", message = said("Degraded")}
end
if status.phase == "Failed" then
  return {status = "Degraded", message = said("Ready")}
end
-- A person is waited for, also while other pools go on.
for _, pool in ipairs(status.pools or {}) do
  if pool.phase == "AwaitingApproval" then
    return {status = "Suspended", message = "pool \"" .. pool.name .. "\": " .. (pool.message or "waits for approval")}
  end
end
if status.phase == "Succeeded" then
  -- What serves goes on serving.
  if holds("Stale") then
    return {status = "Healthy", message = "stale: " .. said("Stale")}
  end
  return {status = "Healthy", message = said("Ready")}
end
if status.phase == "Suspended" or obj.spec.suspend == true then
  return {status = "Suspended", message = "spec.suspend is true: no trial starts"}
end
return {status = "Progressing", message = said("Progressing")}
