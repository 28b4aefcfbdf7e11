//! Payloads that are wrong.

use ktstr::prelude::*;

#[derive(Payload)]
struct NoAttribute;

#[derive(Payload)]
#[payload(args = [])]
struct NoBinary;

#[derive(Payload)]
#[payload(bin = "b")]
struct UnknownField;

#[derive(Payload)]
#[payload(binary = "b")]
#[metric(regex = "x", unit = "ns", better = "lower")]
struct NoName;

#[derive(Payload)]
#[payload(binary = "b")]
#[metric(name = "n", unit = "ns", better = "lower")]
struct NoSource;

#[derive(Payload)]
#[payload(binary = "b")]
#[metric(name = "n", json = "a", better = "lower")]
struct NoUnit;

#[derive(Payload)]
#[payload(binary = "b")]
#[metric(name = "n", json = "a", unit = "ns")]
struct NoPolarity;

#[derive(Payload)]
#[payload(binary = "b")]
#[metric(name = "n", better = "more")]
struct UnknownPolarity;

#[derive(Payload)]
#[payload(binary = "b")]
#[metric(title = "n")]
struct UnknownMetricField;

#[derive(Payload)]
#[payload(binary = "b")]
#[metric(3)]
struct NoForm;

fn main() {}
