-- Tells HAProxy's configuration what its own words can't: that a server is drained, by an operator, by a roll-out or by
-- its own 404. Such a server still gets whom a cookie leads to it. Written by evenkeel, role haproxy.
core.register_fetches("evenkeel_drained", function(_, backend, server)
    local status = core.backends[backend].servers[server]:get_stats().status
    return status:find("^DRAIN") ~= nil or status:find("^NOLB") ~= nil
end)
