//! Tokens from logits, and where a text stops: against witnesses, by properties, and what is refused.

mod draws;
mod goldens;
mod margins;
mod refused;
mod stop;

use gptoss::verify::cases::text::witness;
