package wire

// Advice that several codes share.
const (
	doAgain  = "insert the card and start the operation again"
	doLater  = "start the operation again in a few minutes; if it stays, tell the administrator the code"
	doAdmin  = "tell the administrator the code; the server's log has the details"
	doAgent  = "ask an agent or the help desk"
	doOther  = "use another card and give this one to the help desk"
	doReader = "check card and reader, then insert the card and start the operation again"
)

// explanations is §9 as data: the number is the index. The local meanings of ESC
// (47, 48) are what this program uses them for.
var explanations = [...]Explanation{
	0:  {Name: "NO_ERROR", What: "the operation is complete", Card: CardUsable, Do: "nothing more is needed"},
	1:  {Name: "ERROR_SNAC", What: "the server met an error without a code of its own, or another operation holds this card", Card: CardResumable, Do: doLater},
	2:  {Name: "ERROR_SEC_INIT_UPDATE", What: "the card refused to open a secure channel", Card: CardUnchanged, Do: doReader},
	3:  {Name: "ERROR_CREATE_CARDMGR", What: "the card's manager could not be selected", Card: CardUnchanged, Do: doOther},
	4:  {Name: "ERROR_MAC_RESET_PIN_PDU", What: "the PIN could not be set: it breaks the rules or the card refused it", Card: CardResumable, Do: "start again and choose a PIN that keeps the rules shown"},
	5:  {Name: "ERROR_MAC_CERT_PDU", What: "a certificate could not be written to the card", Card: CardResumable, Do: doAgain},
	6:  {Name: "ERROR_MAC_LIFECYCLE_PDU", What: "the card refused to be marked as finished", Card: CardResumable, Do: doAgain},
	7:  {Name: "ERROR_MAC_ENROLL_PDU", What: "making the keys or certificates failed", Card: CardResumable, Do: doAgain},
	8:  {Name: "ERROR_CANNOT_PERFORM_OPERATION", What: "the card gave an answer that the server cannot use, or the server does not offer this operation", Card: CardResumable, Do: doReader},
	9:  {Name: "ERROR_BAD_STATUS", What: "the card answered with an unexpected status", Card: CardResumable, Do: doAgain},
	10: {Name: "ERROR_CA_RESPONSE", What: "the certificate authority did not answer as it should", Card: CardResumable, Do: doLater},
	11: {Name: "ERROR_READ_BUFFER_OVERFLOW", What: "the card returned more data than the server takes", Card: CardResumable, Do: doOther},
	12: {Name: "ERROR_TOKEN_RESET_PIN_FAILED", What: "the PIN reset failed", Card: CardResumable, Do: doAgain},
	13: {Name: "ERROR_CONNECTION", What: "the connection between the server's parts failed", Card: CardResumable, Do: doLater},
	14: {Name: "ERROR_LOGIN", What: "the login was not accepted", Card: CardUnchanged, Do: "start again with the right user name and password, or the PIN that the card has; after several wrong ones wait a few minutes"},
	15: {Name: "ERROR_DB", What: "the server's token database did not answer", Card: CardResumable, Do: doLater},
	16: {Name: "ERROR_UNKNOWN_TOKEN", What: "the server does not know this card and may not add it for you", Card: CardUnchanged, Do: "have an operator format the card first"},
	17: {Name: "ERROR_SECURE_CHANNEL", What: "card and server could not prove themselves to each other: the server's key service does not answer, or the card is not the one it claims to be", Card: CardResumable, Do: "try it once more in a few minutes; if it fails again, leave it, as cards lock themselves after several tries, and " + doAgent},
	18: {Name: "ERROR_MISCONFIGURATION", What: "the server's configuration is missing something or invalid", Card: CardUnchanged, Do: doAdmin},
	19: {Name: "ERROR_UPGRADE_APPLET", What: "the card's applet could not be loaded or installed", Card: CardResumable, Do: doAgain},
	20: {Name: "ERROR_KEY_CHANGE_OVER", What: "the card's keys were not changed, or the card did not confirm it", Card: CardResumable, Do: doAgent},
	21: {Name: "ERROR_EXTERNAL_AUTH", What: "the card did not accept the server", Card: CardUnchanged, Do: "do not try it again and again, cards lock themselves after that; " + doAgent},
	22: {Name: "ERROR_MAPPING_RESOLVER_FAILED", What: "no profile is meant for this card", Card: CardUnchanged, Do: "choose another profile, or " + doAgent},
	23: {Name: "ERROR_MAPPING_RESOLVER_PARAMS_NOT_FOUND", What: "the server lacks what it needs to choose a profile for this card", Card: CardUnchanged, Do: doAdmin},
	24: {Name: "ERROR_PUBLISH", What: "the certificates could not be published", Card: CardUsable, Do: doAdmin},
	25: {Name: "ERROR_LDAP_CONN", What: "the directory of people did not answer", Card: CardUnchanged, Do: doLater},
	26: {Name: "ERROR_DISABLED_TOKEN", What: "the card's state, its policy or its profile does not allow this operation", Card: CardUnchanged, Do: doAgent},
	27: {Name: "ERROR_NOT_PIN_RESETABLE", What: "the PIN of this card cannot be reset: it is not active, its policy forbids it, or its PUK is blocked", Card: CardUnchanged,
		Do: "whoever knows the PIN can go on using the card; else " + doAgent + ", a card with a blocked PUK has to be formatted and enrolled again"},
	28: {Name: "ERROR_CONN_LOST", What: "the connection ended before the operation did", Card: CardResumable, Do: "check the network, then insert the card and start the operation again"},
	29: {Name: "ERROR_CREATE_TUS_TOKEN_ENTRY", What: "the server could not create a record for this card", Card: CardUnchanged, Do: doLater},
	30: {Name: "ERROR_NO_SUCH_TOKEN_STATE", What: "the server's record of this card has a state it does not know", Card: CardUnchanged, Do: doAdmin},
	31: {Name: "ERROR_NO_SUCH_LOST_REASON", What: "the server's record does not say why the earlier card was lost", Card: CardUnchanged, Do: doAgent},
	32: {Name: "ERROR_UNUSABLE_TOKEN_KEYCOMPROMISE", What: "this card was reported lost or stolen", Card: CardRefused, Do: "give it to an agent"},
	33: {Name: "ERROR_INACTIVE_TOKEN_NOT_FOUND", What: "no earlier card was found to restore keys from", Card: CardUnchanged, Do: doAgent},
	34: {Name: "ERROR_HAS_AT_LEAST_ONE_ACTIVE_TOKEN", What: "this person already has an active card and may have only one", Card: CardUnchanged, Do: "use the other card, or have an agent report it lost"},
	35: {Name: "ERROR_TOKEN_TERMINATED", What: "this card was terminated", Card: CardRefused, Do: "give it to an agent"},
	36: {Name: "RECOVERY_IS_PROCESSED", What: "the server ended with its internal mark for recovered keys", Card: CardResumable, Do: doAdmin},
	37: {Name: "ERROR_RECOVERY_FAILED", What: "restoring keys or renewing certificates failed, or it is not the time for it", Card: CardResumable, Do: doAgain + "; if the code stays, " + doAgent + ": it may be too early, or the card has to be enrolled again"},
	38: {Name: "ERROR_NO_OPERATION_ON_LOST_TOKEN", What: "this card was reported lost", Card: CardRefused, Do: "give it to an agent; if it was found again, an agent can release it"},
	39: {Name: "ERROR_KEY_ARCHIVE_OFF", What: "keys are to be archived or restored, but the server archives none", Card: CardUnchanged, Do: doAdmin},
	40: {Name: "ERROR_NO_TKS_CONNID", What: "the server could not reach its key service", Card: CardResumable, Do: doLater},
	41: {Name: "ERROR_UPDATE_TOKENDB_FAILED", What: "the server could not write its record of this card", Card: CardResumable, Do: doAgain},
	42: {Name: "ERROR_REVOKE_CERTIFICATES_FAILED", What: "the card's earlier certificates could not be revoked", Card: CardResumable, Do: doLater},
	43: {Name: "ERROR_NOT_TOKEN_OWNER", What: "this card belongs to somebody else, or somebody else's operation on it is unfinished", Card: CardUnchanged, Do: "let its owner log in, or an operator"},
	44: {Name: "RENEWAL_IS_PROCESSED", What: "the server ended with its internal mark for renewed certificates", Card: CardResumable, Do: doAdmin},
	45: {Name: "ERROR_CANNOT_ESTABLISH_COMMUNICATION", What: "the card has no card manager that the server knows, and the profile wants one", Card: CardUnchanged,
		Do: "choose a profile for such cards (a YubiKey wants one for PIV cards), or use another card"},
	46: {Name: "ERROR_SYMKEY_256_UPGRADE", What: "the change to 256-bit card keys failed", Card: CardResumable, Do: doAgent},
	47: {Name: "CLIENT_HTTP", What: "the server could not be reached", Card: CardUnchanged, Do: "check the server's address, its certificate and the network, then start again"},
	48: {Name: "CLIENT_READER", What: "the connection to the card was lost", Card: CardResumable, Do: doReader},
}
