package vpcd

// Names for the tests.
var (
	ReadFrame  = readFrame
	WriteFrame = writeFrame
)
