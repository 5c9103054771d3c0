//! Values of the templates in event names of a node, such as `ecto_prefix`: a map in HELLO and in plan replies.

use crate::error::Result;
use crate::map::{Fields, string_list};
use crate::value::{Map, Value};
use std::collections::BTreeMap;

/// Values by template name.
pub type Variables = BTreeMap<String, Vec<String>>;

/// Maximum of templates per node, and of values per template.
const MAX_ENTRIES: usize = 16;
/// Longest value, in bytes.
const MAX_VALUE_BYTES: usize = 255;

/// Reads `variables`; an absent key is an empty map.
pub(crate) fn read(fields: &Fields<'_>) -> Result<Variables> {
    let Some(map) = fields.opt_map("variables")? else {
        return Ok(Variables::new());
    };
    if map.len() > MAX_ENTRIES {
        return fields.bad("variables", "at most 16 names");
    }
    let read = |(name, values): (&String, &Value)| {
        let values = values.as_list().filter(|values| values.len() <= MAX_ENTRIES)?;
        let values: Option<Vec<String>> = values.iter().map(value).collect();
        Some((name.clone(), values?))
    };
    match map.iter().map(read).collect() {
        Some(variables) => Ok(variables),
        None => fields.bad("variables", "lists of at most 16 dotted names"),
    }
}

/// A value is part of event names, so it must not contain templates.
fn value(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let fits = !text.is_empty() && text.len() <= MAX_VALUE_BYTES && !text.contains(['$', '{', '}']);
    fits.then(|| text.to_owned())
}

/// The map on the wire; `None` if empty.
pub(crate) fn map(variables: &Variables) -> Option<Map> {
    let entry = |(name, values): (&String, &Vec<String>)| (name.clone(), string_list(values));
    (!variables.is_empty()).then(|| variables.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameType;

    fn check(values: Value, expected: Option<&[&str]>) {
        let inner = Map::from_iter([("ecto_prefix".to_owned(), values)]);
        let outer = Map::from_iter([("variables".to_owned(), Value::Map(inner))]);
        let found = read(&Fields::new(
            FrameType::Hello,
            crate::map_kind::MapKind::Hello,
            &outer,
        ))
        .ok();
        let expected = expected.map(|names| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            Variables::from([("ecto_prefix".to_owned(), names)])
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn dotted_names_are_read_and_invalid_values_are_rejected() {
        let list = |names: &[&str]| Value::List(names.iter().map(|&name| Value::from(name)).collect());
        check(list(&["stock.repo", "b.repo"]), Some(&["stock.repo", "b.repo"]));
        check(list(&[]), Some(&[]));
        check(list(&["${app}.repo"]), None);
        check(list(&[""]), None);
        check(list(&["a"; 17]), None);
        check(list(&["a".repeat(256).as_str()]), None);
        check(Value::from("stock.repo"), None);
        check(Value::List(vec![Value::from(1_i64)]), None);
    }
}
