package sealing

// OwnerOf is empty: the access rights of the folder decide.
func OwnerOf(string) (string, error) { return "", nil }
