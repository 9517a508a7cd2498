//! Pull requests over a real server, a real store, real Git, and the forge double: who asks for what, what becomes of it, and
//! that nothing is lost or done twice when the server goes away. No runner is there: runs wait. That they are worked on is a
//! test with a real Docker daemon (`real_forge` of `assay`).

mod asked;
mod burst;
mod forks;
mod hooks;
mod images;
mod many;
mod site;
mod slow;
