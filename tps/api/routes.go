package api

import (
	"slices"
	"strings"

	"inkan/tps/auth"
)

// route is one thing that can be asked for, and who may ask.
type route struct {
	pattern string      // method and path below Base
	allow   []auth.Role // whoever has one of them
	event   string      // audit event of a change; "" where nothing changes or the room behind audits itself
	query   []string    // parameters that are understood; another one is an error
	serve   func(*api, *call) (reply, error)
}

// reads reports whether the route changes nothing.
func (r route) reads() bool { return strings.HasPrefix(r.pattern, "GET ") }

var (
	everybody = []auth.Role{auth.Admin, auth.Agent, auth.Operator}
	keepers   = []auth.Role{auth.Admin, auth.Agent}
	agents    = []auth.Role{auth.Agent}
	admins    = []auth.Role{auth.Admin}
	// anybody is whoever is logged in; what the route serves is about themselves.
	anybody = []auth.Role{"anybody"}

	paging = []string{"start", "size", "pageSize", "after"}
)

func with(params ...string) []string { return slices.Concat(paging, params) }

// routes is the whole interface: tps-rest-api.md §3 and §11 (8). What has no
// line here does not exist; what a line does not allow is forbidden.
var routes = []route{
	{"GET /tokens", everybody, "", with("filter", "tokenID", "userID", "type", "status"), (*api).listTokens},
	{"GET /tokens/{id}", everybody, "", nil, (*api).showToken},
	{"POST /tokens/{id}", agents, "", []string{"status"}, (*api).setTokenState}, // audited by tps.Engine
	{"PATCH /tokens/{id}", agents, "CONFIG_TOKEN_RECORD", nil, (*api).modifyToken},
	{"GET /tokens/{id}/operations", everybody, "", with("open"), (*api).listOperations},
	{"POST /tokens/{id}/secret", agents, "TOKEN_SECRET", nil, (*api).showSecret}, // on the node's own machine
	{"GET /tokens/{id}/keying", keepers, "", nil, (*api).showKeying},
	{"GET /certs", everybody, "", with("filter", "tokenID", "userID", "serial", "status"), (*api).listCertificates},
	{"GET /certs/{id}", everybody, "", nil, (*api).showCertificate},
	{"POST /certs/{id}/state", agents, "", nil, (*api).changeCertificate}, // audited by tps.Engine
	{"GET /activities", everybody, "", with("filter", "tokenID", "userID", "operation"), (*api).listActivities},
	{"GET /activities/{id}", everybody, "", nil, (*api).showActivity},
	{"GET /operations", everybody, "", with("tokenID", "userID", "open"), (*api).listAllOperations},
	{"GET /operations/{id}", everybody, "", nil, (*api).showOperation},
	{"GET /profiles", keepers, "", nil, (*api).listProfiles},
	{"GET /profiles/{id}", keepers, "", nil, (*api).showProfile},
	{"PUT /profiles/{id}", admins, "CONFIG_TOKEN_PROFILE", nil, (*api).putProfile},
	{"POST /profiles/{id}", keepers, "CONFIG_TOKEN_PROFILE", []string{"action"}, (*api).changeProfileState}, // enabling: agents
	{"GET /profile-mappings", admins, "", nil, (*api).listMappings},
	{"GET /profile-mappings/{id}", admins, "", nil, (*api).showMapping},
	{"PUT /profile-mappings/{id}", admins, "CONFIG_TOKEN_MAPPING_RESOLVER", nil, (*api).putMapping},
	{"DELETE /profile-mappings/{id}", admins, "CONFIG_TOKEN_MAPPING_RESOLVER", nil, (*api).deleteMapping},
	{"GET /profile-choice", admins, "", []string{"operation", "profile", "tokenID", "tokenATR", "tokenType", "keySet", "symKeySize", "unmanaged",
		"protocolVersion", "appletVersion"}, (*api).chooseProfile},
	{"POST /releases", agents, "CONFIG_TOKEN_RECORD", nil, (*api).release},
	{"GET /admin/users", admins, "", []string{"start", "size", "pageSize", "filter"}, (*api).listUsers},
	{"POST /admin/users", admins, "CONFIG_ROLE", nil, (*api).addUser},
	{"GET /admin/users/{id}", admins, "", nil, (*api).showUser},
	{"PATCH /admin/users/{id}", admins, "CONFIG_ROLE", nil, (*api).modifyUser},
	{"DELETE /admin/users/{id}", admins, "CONFIG_ROLE", nil, (*api).deleteUser},
	{"GET /keysets", keepers, "", nil, (*api).listKeySets},
	{"POST /keysets", admins, "CONFIG_KEY_SET", nil, (*api).createKeySet},
	{"POST /keysets/check", admins, "", nil, (*api).checkKeySet},
	{"POST /keysets/import", admins, "CONFIG_KEY_SET", nil, (*api).importKeySet},
	{"POST /keysets/{name}/{version}/test", admins, "CONFIG_KEY_SET", nil, (*api).testKeySet},
	{"POST /keysets/{name}/{version}/retire", admins, "CONFIG_KEY_SET", nil, (*api).retireKeySet},
	{"GET /realm", admins, "", nil, (*api).showRealm},
	{"GET /realm/calendar", admins, "", []string{"days"}, (*api).listCalendar},
	{"GET /realm/keys", admins, "", []string{"deleted"}, (*api).listRealmKeys},
	{"POST /realm/keys", admins, "", nil, (*api).addRealmKey}, // realm keys: audited by tps/realm
	{"GET /realm/keys/{id}", admins, "", nil, (*api).showRealmKey},
	{"PATCH /realm/keys/{id}", admins, "", nil, (*api).changeRealmKey},
	{"DELETE /realm/keys/{id}", admins, "", nil, (*api).deleteRealmKey},
	{"POST /realm/keys/{id}/compromised", admins, "", nil, (*api).compromiseRealmKey},
	{"POST /realm/rotate", admins, "", nil, (*api).rotateRealm},
	{"POST /tickets", anybody, "TICKET", nil, (*api).issueTicket},
	{"GET /audit", admins, "", nil, (*api).proveAudit},
	{"POST /audit/export", admins, "AUDIT_RECORD", nil, (*api).exportAudit},
	{"GET /key-backup", admins, "", nil, (*api).showBackup},
	{"POST /key-backup", admins, "KEY_BACKUP", nil, (*api).writeBackup},
	{"POST /backup", admins, "FOLDER_BACKUP", nil, (*api).backUpFolder},
}
