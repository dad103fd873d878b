package api

import "inkan/tps/auth"

// RouteLine is a line of the table of routes.
type RouteLine struct {
	Pattern string
	Allow   []auth.Role
	Event   string
}

func RouteLines() []RouteLine {
	var out []RouteLine
	for _, r := range routes {
		out = append(out, RouteLine{r.pattern, r.allow, r.event})
	}
	return out
}
