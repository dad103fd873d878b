// Package bench measures the product: round trips, waiting over a slow link, the
// key service against raw PKCS #11, wrapping against bare cryptography, readers
// against a bare loop, and what a node costs its operator in processor time and
// memory. It has tests only.
//
// `make bench` runs them and prints key=value lines. Whatever can be is a ratio of
// two things measured in turns, so that a loaded machine slows both; rates and
// times are medians of several rounds. The node runs in a process of its own,
// whose processor time and memory are its own; cards and persons are in the
// process of the test. With INKAN_REAL=1 alone every measurement is taken once, in
// small, to see that it works; aims count only in full (INKAN_BENCH=1).
package bench
