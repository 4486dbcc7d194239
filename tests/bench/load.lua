-- wrk: the method is the first argument, a file of access tokens (one a line, used in turn) the second.
local requests = {}
local index = 0

function init(arguments)
  local method = arguments[1] or "GET"
  if arguments[2] then
    for token in io.lines(arguments[2]) do
      requests[#requests + 1] = wrk.format(method, nil, { Authorization = "Bearer " .. token, Host = wrk.headers["Host"] })
    end
  else
    requests[1] = wrk.format(method)
  end
end

function request()
  index = index % #requests + 1
  return requests[index]
end
