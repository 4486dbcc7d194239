-- HAProxy asks Interlock about a request (forward-auth), and keeps Interlock's credentials from the application.

local IDENTITY = {
    ["remote-user"] = true, ["remote-groups"] = true, ["remote-email"] = true, ["remote-name"] = true,
    ["x-session-id"] = true, ["x-session-state"] = true,
}
-- What Interlock's decision depends on.
local ASKED = {
    "host", "authorization", "cookie", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest",
    "access-control-request-method", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
}

local function remove_identity(txn)
    for name in pairs(txn.http:req_get_headers()) do
        -- Application servers treat other characters as a hyphen.
        if IDENTITY[name:lower():gsub("[^a-z0-9]", "-")] then
            txn.http:req_del_header(name)
        end
    end
end

-- http-request lua.interlock_ask URL: sets txn.interlock to the status of the answer, and the identity after a 200.
core.register_action("interlock_ask", {"http-req"}, function(txn, url)
    local received = txn.http:req_get_headers()
    local headers = {["x-forwarded-method"] = {[0] = txn.sf:method()}}
    for _, name in ipairs(ASKED) do
        headers[name] = received[name]
    end
    remove_identity(txn)
    local answer = core.httpclient():get{url = url, headers = headers, timeout = 10000}
    txn:set_var("txn.interlock", tostring(answer and answer.status or 503))
    if answer and answer.headers and answer.headers["www-authenticate"] then
        txn:set_var("txn.challenge", answer.headers["www-authenticate"][0])
    end
    if answer and answer.status == 200 then
        for name in pairs(IDENTITY) do
            local value = answer.headers[name] and answer.headers[name][0] or ""
            if value ~= "" then
                txn.http:req_set_header(name, value)
            end
        end
    end
end, 1)

-- http-request lua.interlock_nobody: for public paths; removes what the client claims to be.
core.register_action("interlock_nobody", {"http-req"}, remove_identity)

-- http-request lua.interlock_keep_credentials: the application gets its own cookies and no token.
core.register_action("interlock_keep_credentials", {"http-req"}, function(txn)
    txn.http:req_del_header("authorization")
    local received = txn.http:req_get_headers()["cookie"]
    if received == nil then
        return
    end
    txn.http:req_del_header("cookie")
    local kept = {}
    for index = 0, #received do
        for pair in received[index]:gmatch("[^;]+") do
            local trimmed = pair:match("^[ \t]*(.-)[ \t]*$")
            -- Anywhere: some application servers strip more than spaces and tabs from a name.
            if trimmed ~= "" and not trimmed:find("__Host-interlock=", 1, true) then
                kept[#kept + 1] = trimmed
            end
        end
    end
    if #kept > 0 then
        txn.http:req_set_header("cookie", table.concat(kept, "; "))
    end
end)
