-- wrk: the method is the first argument, a file of tokens (one a line, used in turn) the second. They are access tokens, or,
-- when the third is "cookie", refresh tokens as a browser's page sends them.
local requests = {}
local index = 0

function init(arguments)
  local method = arguments[1] or "GET"
  if arguments[2] then
    for token in io.lines(arguments[2]) do
      local headers = { Host = wrk.headers["Host"] }
      if arguments[3] == "cookie" then
        headers["Cookie"] = "__Host-interlock=" .. token
        headers["Sec-Fetch-Site"] = "same-origin"
      else
        headers["Authorization"] = "Bearer " .. token
      end
      requests[#requests + 1] = wrk.format(method, nil, headers)
    end
  else
    requests[1] = wrk.format(method)
  end
end

function request()
  index = index % #requests + 1
  return requests[index]
end
