//! Shares and leases.

use crate::bootstrap::*;
