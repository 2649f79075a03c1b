//! Problems of many tensors as a short list: by kind, with layers and experts folded into ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::TensorProblem;

/// Lines of a list, before "and so many more".
const LINES: usize = 10;
/// Ranges of numbers that a name shows.
const RANGES: usize = 8;
/// What stands for a number in a name: no name has it.
const NUMBER: &str = "\0";

/// Problems as an indented list, one group a line, at most ten.
pub(super) struct Listing<'a>(pub &'a [TensorProblem]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = groups(self.0);
        for group in groups.iter().take(LINES) {
            write!(f, "\n  - {group}")?;
        }
        match groups.iter().skip(LINES).map(|group| group.count).sum::<usize>() {
            0 => Ok(()),
            more => write!(f, "\n  - and {more} more"),
        }
    }
}

/// Tensors with the same problem whose names differ in their numbers.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// The first of them.
    pub problem: &'a TensorProblem,
    /// Their names in one.
    pub name: String,
    /// How many there are.
    pub count: usize,
    files: BTreeSet<&'a str>,
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = match self.files.len() {
            1 => self.problem.file().to_string(),
            files => format!("{files} files"),
        };
        f.write_str(&self.problem.sentence(&self.name, &file, self.count > 1))?;
        if self.count > 1 { write!(f, " ({} tensors)", self.count) } else { Ok(()) }
    }
}

/// Groups problems by kind, by what is wrong, and by name without its numbers.
pub(super) fn groups(problems: &[TensorProblem]) -> Vec<Group<'_>> {
    let folded = fold(problems.iter().map(|problem| {
        let what = (problem.rank(), problem.sentence("", "", false));
        (what, problem.name())
    }));
    let groups = folded.into_iter().map(|Folded { name, members }| Group {
        problem: &problems[members[0]],
        name,
        count: members.len(),
        files: members.iter().map(|&index| problems[index].file()).collect(),
    });
    let mut groups: Vec<Group<'_>> = groups.collect();
    groups.sort_by_key(|group| group.problem.rank());
    groups
}

/// Tensors of which the same is to be said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Folded {
    /// Their names in one, as `model.layers.{3..60}.mlp.gate.weight`.
    pub name: String,
    /// Their places in what was folded, in ascending order.
    pub members: Vec<usize>,
}

/// What tensors of one group have in common: what is to be said of them, and the name without its
/// numbers.
type Like<W> = (W, String);
/// That, and all numbers of a name but the last.
type WithHead<W> = (Like<W>, Vec<u64>);
/// That, and the last numbers of several names.
type WithLast<W> = (Like<W>, Vec<Option<u64>>);
/// Places of names by their last numbers.
type ByLast = BTreeMap<Option<u64>, usize>;

/// Folds names of which the same is to be said where they differ in their numbers alone; a folded
/// name stands for exactly its members. In the order of the first member of each.
pub(super) fn fold<'a, W: Ord>(names: impl Iterator<Item = (W, &'a str)>) -> Vec<Folded> {
    // First over the last number of a name (experts), then over the other (layers) where the same
    // last ones are concerned.
    let mut inner: BTreeMap<WithHead<W>, ByLast> = BTreeMap::new();
    for (index, (what, name)) in names.enumerate() {
        let (pattern, mut numbers) = split(name);
        let last = numbers.pop();
        inner.entry(((what, pattern), numbers)).or_default().insert(last, index);
    }
    let mut outer: BTreeMap<WithLast<W>, Vec<Heads>> = BTreeMap::new();
    for ((like, head), members) in inner {
        let (last, members): (Vec<Option<u64>>, Vec<usize>) = members.into_iter().unzip();
        let heads = outer.entry((like, last)).or_default();
        match (heads.first_mut(), &head[..]) {
            // Several numbers need not make a product, one does.
            (Some(first), &[number]) => {
                first.columns[0].push(number);
                first.members.extend(members);
            }
            _ => heads.push(Heads { columns: head.iter().map(|&n| vec![n]).collect(), members }),
        }
    }
    let mut folded = Vec::new();
    for (((_, pattern), last), heads) in outer {
        for Heads { mut columns, mut members } in heads {
            members.sort_unstable();
            let last: Vec<u64> = last.iter().copied().flatten().collect();
            if !last.is_empty() {
                columns.push(last);
            }
            folded.push(Folded { name: joined(&pattern, &columns), members });
        }
    }
    folded.sort_by_key(|folded| folded.members[0]);
    folded
}

/// Names with the same last numbers: what stands in the places of the others.
struct Heads {
    columns: Vec<Vec<u64>>,
    members: Vec<usize>,
}

/// A name with its numbers taken out.
fn split(name: &str) -> (String, Vec<u64>) {
    let mut numbers = Vec::new();
    let parts: Vec<&str> = name
        .split('.')
        .map(|part| match part.parse() {
            Ok(number) => {
                numbers.push(number);
                NUMBER
            }
            Err(_) => part,
        })
        .collect();
    (parts.join("."), numbers)
}

/// The name with sets of numbers in their places.
fn joined(pattern: &str, columns: &[Vec<u64>]) -> String {
    let mut name = String::new();
    for (i, part) in pattern.split(NUMBER).enumerate() {
        if let Some(numbers) = i.checked_sub(1).and_then(|column| columns.get(column)) {
            name += &ranges(numbers);
        }
        name += part;
    }
    name
}

/// `3`, `{0..255}` or `{0..3,7}` of numbers in ascending order.
fn ranges(numbers: &[u64]) -> String {
    if let [number] = numbers {
        return number.to_string();
    }
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => runs.push((number, number)),
        }
    }
    let mut shown: Vec<String> = runs
        .iter()
        .take(RANGES)
        .map(|&(start, end)| match end - start {
            0 => start.to_string(),
            1 => format!("{start},{end}"),
            _ => format!("{start}..{end}"),
        })
        .collect();
    if runs.len() > RANGES {
        shown.push("...".into());
    }
    format!("{{{}}}", shown.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(name: String) -> TensorProblem {
        TensorProblem::Missing { name, shape: vec![2] }
    }

    fn lines(problems: &[TensorProblem]) -> Vec<String> {
        Listing(problems).to_string().lines().skip(1).map(str::to_string).collect()
    }

    #[test]
    fn layers_and_experts_are_folded_where_they_are_a_whole() {
        let expert = |layer, e| missing(format!("model.layers.{layer}.mlp.experts.{e}.up.weight"));
        let mut problems: Vec<TensorProblem> =
            (3..=60).flat_map(|layer| (0..256).map(move |e| expert(layer, e))).collect();
        problems.push(expert(61, 7));
        problems.push(missing("model.norm.weight".into()));
        problems.push(TensorProblem::Extra { name: "a.1".into(), file: "x".into() });
        problems.push(TensorProblem::Extra { name: "a.2".into(), file: "y".into() });
        assert_eq!(
            lines(&problems),
            [
                "  - model.layers.{3..60}.mlp.experts.{0..255}.up.weight are missing; each must be \
                 [2] (14848 tensors)",
                "  - model.layers.61.mlp.experts.7.up.weight is missing; it must be [2]",
                "  - model.norm.weight is missing; it must be [2]",
                "  - a.{1,2} (2 files) have no place in the model (2 tensors)",
            ]
        );
    }

    #[test]
    fn a_list_is_cut_at_ten_and_says_how_many_tensors_more() {
        let problems: Vec<TensorProblem> =
            (0..42u8).map(|i| missing(format!("part{i}.weight"))).collect();
        let lines = lines(&problems);
        assert_eq!((lines.len(), lines[10].as_str()), (11, "  - and 32 more"));
    }

    #[test]
    fn ranges_of_numbers_are_short() {
        assert_eq!(ranges(&[4]), "4");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "{0..2,5,7,8}");
        let odd: Vec<u64> = (0..20).map(|i| 2 * i).collect();
        assert_eq!(ranges(&odd), "{0,2,4,6,8,10,12,14,...}");
    }
}
