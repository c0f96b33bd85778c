//! Behaviour of the house, as a specification. One binary, so that it links once; the tree says where things are.

mod doors;
