//! Reading and writing of values: typed text, words of enums, JSON, and unsigned numbers.

use crate::{Error, Result};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Params, Row, Statement};
use serde::{Serialize, de::DeserializeOwned};
use std::str::FromStr;

type Column<T> = rusqlite::Result<T>;

fn unreadable(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    tracing::error!(column, %error, "the directory holds a value that cannot be read");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}

/// An id or a checked name.
pub(crate) fn parsed<T>(row: &Row<'_>, column: &str) -> Column<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.get_ref(column)?.as_str()?.parse().map_err(|error| unreadable(column, error))
}

pub(crate) fn maybe_parsed<T>(row: &Row<'_>, column: &str) -> Column<Option<T>>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = row.get_ref(column)?.as_str_or_null()?;
    text.map(str::parse).transpose().map_err(|error| unreadable(column, error))
}

pub(crate) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Column<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| unreadable(column, error))
}

pub(crate) fn maybe_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Column<Option<T>> {
    let text = row.get_ref(column)?.as_str_or_null()?;
    text.map(serde_json::from_str).transpose().map_err(|error| unreadable(column, error))
}

/// A variant without fields, stored as its serialised name.
pub(crate) fn word<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Column<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(serde_json::Value::String(text)).map_err(|error| unreadable(column, error))
}

pub(crate) fn as_word<T: Serialize>(value: T) -> Result<String> {
    match serde_json::to_value(value)? {
        serde_json::Value::String(text) => Ok(text),
        other => Err(Error::Database(format!("{other} is not one word"))),
    }
}

pub(crate) fn as_json<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// SQLite's integers are signed; nothing here comes near the end of either.
pub(crate) fn unsigned(row: &Row<'_>, column: &str) -> Column<u64> {
    Ok(row.get::<_, i64>(column)?.max(0).unsigned_abs())
}

pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn first<T>(
    mut statement: Statement<'_>,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Column<T>,
) -> Result<Option<T>> {
    Ok(statement.query_row(params, read).optional()?)
}

pub(crate) fn all<T>(
    mut statement: Statement<'_>,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Column<T>,
) -> Result<Vec<T>> {
    let rows = statement.query_map(params, read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
