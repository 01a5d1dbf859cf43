//! Memory bounds, in a process of their own: heap kept from other work would hide an increase.

mod bounds;
