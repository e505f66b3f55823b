//! Tests of the network over loopback sockets.
