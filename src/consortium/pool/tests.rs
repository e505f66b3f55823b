//! The pool keeps what it admitted, within its bounds.
