//! Behavioural gates: whether a model, or an agent, may have traffic at all.
//!
//! A rollout judges by what users meet; a gate judges before they do. It asks the new version a fixed set of cases, scores
//! the answers, and holds what it finds against a limit and against the stable version's answers to the same cases. The usual
//! tests of this kind compare one number of a handful of prompts with a threshold. Three prompts that are all refused are
//! what a model that answers every third attack shows in three of ten runs; so here every number carries the bound that it
//! supports, and a verdict is read off the bound:
//!
//! - `pass`: what is not good enough would be passed in at most `beta` of all runs;
//! - `fail`: what is good enough would be failed in at most `alpha` of all runs, for the whole suite together;
//! - `inconclusive`: the cases can't tell, and more of them might;
//! - `error`: the target, a judge or a classifier did not do its part, so that nothing was measured;
//! - `skipped`: there was nothing to hold it against.
//!
//! This crate is the pure half. It is handed recorded [`observation::Observation`]s and gives back a [`report::Report`]; it
//! sends nothing, reads no clock, and the seed of what it resamples is in the suite. Who asks, waits, retries and pays is the
//! shell. What was not answered is never left out in silence: it counts against passing, and never for failing
//! ([`evidence`]).
//!
//! To read it, follow the modules in the order below.

pub mod text;
pub mod dataset;
pub mod metric;
pub mod suite;
pub mod score;
pub mod observation;
pub mod evidence;
pub mod rule;
pub mod gates;
pub mod report;
pub mod import;
