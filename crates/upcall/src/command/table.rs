//! Columns for people.

use std::io::Write;

/// The widest cell of a column that another follows. `--json` has what is beyond.
const CELL_CHARS_MAX: usize = 120;

/// Writes rows in columns as wide as their widest cell, which is cut where it is very long; the last one is as wide as it
/// happens to be.
pub(super) fn write<const N: usize>(out: &mut impl Write, rows: &[[String; N]]) -> std::io::Result<()> {
    let rows: Vec<[String; N]> = rows.iter().map(|row| cut(row.clone())).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row).take(N.saturating_sub(1)) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn cut<const N: usize>(mut row: [String; N]) -> [String; N] {
    for cell in row.iter_mut().take(N.saturating_sub(1)) {
        if let Some((end, _)) = cell.char_indices().nth(CELL_CHARS_MAX) {
            let last = cell[..end].char_indices().next_back().map_or(0, |(at, _)| at);
            cell.truncate(last);
            cell.push('…');
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_cut_where_a_table_would_be_none_any_more() {
        let (name, long) = ("é".repeat(CELL_CHARS_MAX), "é".repeat(140_000));
        let rows = [[name.clone(), long.clone()], [long.clone(), "b".to_owned()]];
        let mut out = Vec::new();
        write(&mut out, &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, format!("{name}  {long}\n{}…  b\n", "é".repeat(CELL_CHARS_MAX - 1)));
    }
}
