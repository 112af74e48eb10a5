//! The limiter against a model of Discord, under virtual time. A run is one seed; a failure prints it.
//!
//! What is checked: no request is sent that the model must refuse, except where nobody could know
//! (first contact, hidden limits, limits that others used up), which are counted apart; requests of
//! a route go in the order in which they came; everybody is served or told; nothing leaks: in the
//! end the limiter holds nothing; what the model allows is used.

mod check;
mod discord;
mod seed;
mod world;
