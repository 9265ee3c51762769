//! Every row of the list of errors, the guide's own files, and a good file broken in every way.

mod dialects;
mod fixture;
mod guide;
mod mutations;
mod rows;
mod tenants;
mod together;
