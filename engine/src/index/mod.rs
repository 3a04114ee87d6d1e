//! Which blob lies where.
