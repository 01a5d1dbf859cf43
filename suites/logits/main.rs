//! The forward pass: the oracle against other people's programs, the device against the oracle.

mod device;
mod oracle;
mod printed;
mod refused;
mod requests;
