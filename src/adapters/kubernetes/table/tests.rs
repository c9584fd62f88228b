use bellwether_core::dice::Random;

use super::*;

/// An object of these owners.
#[derive(Debug, Clone, PartialEq)]
struct Row(BTreeSet<String>);

impl Owned for Row {
    fn owners(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[test]
fn the_objects_of_an_owner_are_those_that_a_search_finds() {
    let mut random = Random::new(1);
    let mut table: OwnedTable<Row> = OwnedTable::default();
    for _ in 0..20_000 {
        let key = ("shop".to_owned(), random.below(20).to_string());
        let row = Row((0..random.below(3)).map(|_| random.below(5).to_string()).collect());
        let change = match random.below(12) {
            0 => Change::Begin,
            1 => Change::Complete,
            2..5 => Change::Listed(key, row),
            5..8 => Change::Gone(key),
            _ => Change::Set(key, row),
        };
        table.apply(change);
        for owner in (0..5).map(|owner| owner.to_string()) {
            let searched: Vec<&Row> = table.objects.of("shop").filter(|row| row.0.contains(&owner)).collect();
            assert_eq!(table.of_owner(&owner).collect::<Vec<_>>(), searched);
        }
        let indexed: usize = table.by_owner.values().map(BTreeSet::len).sum();
        let owned: usize = table.rows().map(|(_, row)| row.0.len()).sum();
        assert_eq!(indexed, owned, "an entry is left");
    }
}
