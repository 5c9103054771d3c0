//! JSON Schemas of definitions, with the short and the long form of each value.

use crate::definition::{
    Buckets, Carry, Definition, EventName, LongBuckets, LongCarry, LongDefinition, Unit,
};
use crate::expression::{
    CONDITION, Condition, EXPRESSION, Expression, LongCondition, LongExpression, Root, Scalar, TRANSFORM,
    Transform,
};
use crate::shorthand::Shaped;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

macro_rules! schema {
    ($type:ty, $name:literal, $generator:ident => $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema!(Definition, "Definition", generator => LongDefinition::json_schema(generator));
schema!(Carry, "Carry", generator => LongCarry::json_schema(generator));
schema!(EventName, "EventName", _generator => json_schema!({"type": "string"}));
schema!(Scalar, "Scalar", _generator => json_schema!({"type": ["string", "number", "boolean"]}));
schema!(Expression, "Expression", generator => {
    let long = generator.subschema_for::<LongExpression>();
    json_schema!({"oneOf": [{"type": "string"}, long], "x-expected": EXPRESSION})
});
schema!(Condition, "Condition", generator => {
    let mut schema = LongCondition::json_schema(generator);
    schema.insert("x-expected".to_owned(), CONDITION.into());
    schema
});
schema!(Unit, "Unit", _generator => json_schema!({
    "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}],
    "x-expected": crate::definition::UNIT
}));
schema!(Buckets, "Buckets", generator => {
    let long = generator.subschema_for::<LongBuckets>();
    json_schema!({
        "oneOf": [{"const": "exponential"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}, long],
        "x-expected": crate::definition::BUCKETS
    })
});
schema!(Shaped<Root>, "Root", _generator => json_schema!({"enum": ["measurements", "metadata"]}));
schema!(Shaped<Transform>, "Transform", generator => {
    let scalar = generator.subschema_for::<Scalar>();
    let operand = |name: &str, schema: serde_json::Value| {
        serde_json::json!({
            "type": "object",
            "properties": {(name): schema},
            "required": [name],
            "additionalProperties": false
        })
    };
    json_schema!({
        "oneOf": [
            {"enum": ["name", "class", "tag", "length", "bool", "type", "upper"]},
            operand("cut", serde_json::json!({"type": "integer", "minimum": 0})),
            operand("before", serde_json::json!({"type": "string", "minLength": 1})),
            operand("allow", serde_json::json!({"type": "array", "items": scalar})),
            operand("rename", serde_json::json!({
                "type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}
            })),
            operand("default", serde_json::json!(scalar))
        ],
        "x-expected": TRANSFORM
    })
});
