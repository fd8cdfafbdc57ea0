-- Something that was said, and nothing that runs. What has been deployed stays when it expires.
local message = obj.spec.trial .. " of " .. obj.spec.tuning .. ", approved by " .. obj.spec.approvedBy
if obj.spec.expires ~= nil then
  message = message .. " until " .. obj.spec.expires
end
return {status = "Healthy", message = message}
