//! What a package is made of is there, and fits together.

use std::fs;
use std::path::Path;
