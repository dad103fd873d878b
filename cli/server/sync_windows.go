package server

// syncFolder does nothing: Windows flushes a rename with the file.
func syncFolder(string) error { return nil }
