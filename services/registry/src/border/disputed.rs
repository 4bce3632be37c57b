//! Places where it is disputed, or legally special, whose law applies.
//!
//! The border data draws one line even there; this table, reviewed in November 2026, says where
//! not to believe it. Outlines are coarse on purpose and a little too large: being asked once more
//! costs a sentence, a wrong zone costs more. Naming a place here takes no side.

use crate::site::Coordinates;

/// A place that the border data must not decide.
#[derive(Debug, PartialEq)]
pub struct Disputed {
    /// What it is called.
    pub name: &'static str,
    /// Why it is unclear.
    pub remark: &'static str,
    /// Codes that a person may choose from.
    pub claimants: &'static [&'static str],
    marks: &'static [Mark],
}

/// How a place is recognised.
#[derive(Debug, PartialEq)]
enum Mark {
    /// The border data gives it one of these ids.
    Id(&'static [&'static str]),
    /// The border data gives it all of these ids at once.
    Overlap(&'static [&'static str]),
    /// It lies in the outline (degrees north, degrees east) and the data gives it one of these ids,
    /// so that an outline need not follow the borders to other countries.
    Outline(&'static [&'static str], &'static [(f64, f64)]),
}

/// The disputed place at `point`, which the border data gives `ids`.
#[must_use]
pub fn find(ids: &[&str], point: Coordinates) -> Option<&'static Disputed> {
    TABLE.iter().find(|disputed| disputed.marks.iter().any(|mark| mark.matches(ids, point)))
}

impl Mark {
    fn matches(&self, ids: &[&str], point: Coordinates) -> bool {
        match self {
            Self::Id(any) => any.iter().any(|id| ids.contains(id)),
            Self::Overlap(all) => all.iter().all(|id| ids.contains(id)),
            Self::Outline(any, outline) => any.iter().any(|id| ids.contains(id)) && is_inside(outline, point),
        }
    }
}

/// Whether a line from the point to the east crosses the outline an odd number of times.
fn is_inside(outline: &[(f64, f64)], point: Coordinates) -> bool {
    let (north, east) = (point.latitude(), point.longitude());
    let next = outline.iter().cycle().skip(1);
    let crossings = outline.iter().zip(next).filter(|((north_a, east_a), (north_b, east_b))| {
        (*north_a > north) != (*north_b > north)
            && east < (east_b - east_a) * (north - north_a) / (north_b - north_a) + east_a
    });
    crossings.count() % 2 == 1
}

const TABLE: &[Disputed] = &[
    Disputed {
        name: "northern Cyprus",
        remark: "the application of Union law is suspended there (Protocol 10 of the Act of Accession of 2003)",
        claimants: &["CY"],
        marks: &[
            Mark::Outline(
                &["CY"],
                // Along the southern edge of the buffer zone from west to east, then around by sea.
                &[
                    (35.20, 32.66),
                    (35.14, 32.66),
                    (35.06, 32.78),
                    (35.07, 32.90),
                    (35.125, 32.99),
                    (35.15, 33.05),
                    (35.152, 33.20),
                    (35.14, 33.27),
                    (35.168, 33.33),
                    (35.172, 33.36),
                    (35.17, 33.38),
                    (35.15, 33.39),
                    (35.10, 33.41),
                    (35.03, 33.42),
                    (34.99, 33.46),
                    (35.03, 33.50),
                    (35.05, 33.60),
                    (35.00, 33.68),
                    (35.00, 33.75),
                    (35.04, 33.87),
                    (35.065, 33.92),
                    (35.065, 34.3),
                    (35.75, 34.8),
                    (35.75, 34.3),
                    (35.55, 33.6),
                    (35.60, 32.66),
                ],
            ),
            // The Kokkina enclave.
            Mark::Outline(&["CY"], &[(35.15, 32.57), (35.15, 32.65), (35.21, 32.65), (35.21, 32.57)]),
        ],
    },
    Disputed {
        name: "the Sovereign Base Areas on Cyprus",
        remark: "they are British, and parts of Union law apply in them (Protocol 3 of the Act of Accession of 2003)",
        claimants: &["GB", "CY"],
        marks: &[Mark::Outline(&["GB"], &[(34.3, 32.0), (34.3, 34.5), (35.3, 34.5), (35.3, 32.0)])],
    },
    Disputed {
        name: "Lake Constance",
        remark: "its three states never agreed on a border in the Obersee",
        claimants: &["DE", "AT", "CH"],
        marks: &[Mark::Outline(&["DE", "AT", "CH"], OBERSEE)],
    },
    Disputed {
        name: "Crimea and Sevastopol",
        remark: "occupied by Russia; Ukrainian by Resolution 68/262 of the UN General Assembly",
        claimants: &["UA", "RU"],
        marks: &[Mark::Id(&["UA-43", "UA-40"])],
    },
    Disputed {
        name: "eastern and southern Ukraine",
        remark: "partly occupied by Russia; Ukrainian by Resolution ES-11/4 of the UN General Assembly",
        claimants: &["UA", "RU"],
        marks: &[Mark::Outline(
            &["UA"],
            &[
                (45.95, 31.9),
                (46.65, 31.9),
                (47.6, 33.2),
                (48.1, 34.9),
                (48.5, 36.6),
                (49.2, 37.2),
                (50.1, 37.9),
                (50.2, 40.4),
                (47.0, 40.4),
                (45.9, 35.0),
            ],
        )],
    },
    Disputed {
        name: "Transnistria",
        remark: "Moldovan, and not under the control of the Moldovan government",
        claimants: &["MD"],
        marks: &[Mark::Id(&["MD-SN"])],
    },
    Disputed {
        name: "Abkhazia and South Ossetia",
        remark: "Georgian, and not under the control of the Georgian government",
        claimants: &["GE"],
        marks: &[Mark::Id(&["GE-AB", "GE-SK"])],
    },
    Disputed {
        name: "Kosovo",
        remark: "not recognised by all states, members of the Union among them",
        claimants: &["XK", "RS"],
        marks: &[Mark::Id(&["XK"])],
    },
    Disputed {
        name: "East Jerusalem",
        remark: "occupied by Israel (Resolution 478 of the UN Security Council); the adequacy decision for Israel leaves it out",
        claimants: &["PS", "IL"],
        marks: &[Mark::Outline(
            &["IL"],
            &[(31.70, 35.222), (31.70, 35.30), (31.88, 35.30), (31.88, 35.20), (31.80, 35.222)],
        )],
    },
    Disputed {
        name: "the West Bank and Gaza",
        remark: "occupied by Israel (advisory opinion of the International Court of Justice of 19 July 2024)",
        claimants: &["PS", "IL"],
        marks: &[Mark::Id(&["PS"])],
    },
    Disputed {
        name: "the Golan Heights",
        remark: "occupied by Israel (Resolution 497 of the UN Security Council); the adequacy decision for Israel leaves them out",
        claimants: &["SY", "IL"],
        marks: &[Mark::Outline(
            &["IL"],
            &[(32.68, 35.64), (33.25, 35.62), (33.35, 35.75), (33.35, 36.0), (32.68, 36.0)],
        )],
    },
    Disputed {
        name: "Western Sahara",
        remark: "a non-self-governing territory, administered by Morocco west of the berm",
        claimants: &["EH", "MA"],
        marks: &[
            Mark::Outline(&["MA"], &[(20.5, -18.0), (27.68, -18.0), (27.68, -8.6), (20.5, -8.6)]),
            Mark::Id(&["EH"]),
        ],
    },
    Disputed {
        name: "the Spanish places on the Moroccan coast",
        remark: "Perejil is disputed between Spain and Morocco",
        claimants: &["ES", "MA"],
        marks: &[Mark::Outline(&["MA"], &[(35.90, -5.43), (35.93, -5.43), (35.93, -5.40), (35.90, -5.40)])],
    },
    Disputed {
        name: "Kashmir",
        remark: "disputed between India and Pakistan",
        claimants: &["IN", "PK"],
        marks: &[Mark::Id(&["IN-JK", "PK-AJK"])],
    },
    Disputed {
        name: "Gilgit-Baltistan",
        remark: "disputed between India and Pakistan",
        claimants: &["IN", "PK"],
        marks: &[Mark::Outline(
            &["PK"],
            &[(34.5, 74.6), (35.2, 72.5), (37.2, 72.5), (37.2, 77.9), (34.5, 77.9)],
        )],
    },
    Disputed {
        name: "Aksai Chin",
        remark: "disputed between China and India",
        claimants: &["CN", "IN"],
        marks: &[Mark::Outline(&["CN"], &[(34.2, 77.7), (36.6, 77.7), (36.6, 80.5), (34.2, 80.5)])],
    },
    Disputed {
        name: "Arunachal Pradesh",
        remark: "disputed between India and China",
        claimants: &["IN", "CN"],
        marks: &[Mark::Id(&["IN-AR"])],
    },
    Disputed {
        name: "Taiwan",
        remark: "claimed by the People's Republic of China",
        claimants: &["TW", "CN"],
        marks: &[Mark::Id(&["TW"])],
    },
    Disputed {
        name: "Abyei",
        remark: "disputed between Sudan and South Sudan",
        claimants: &["SD", "SS"],
        marks: &[Mark::Overlap(&["SS", "SD"])],
    },
    Disputed {
        name: "the Hala'ib Triangle",
        remark: "disputed between Egypt and Sudan",
        claimants: &["EG", "SD"],
        marks: &[Mark::Outline(&["EG"], &[(22.0, 34.0), (23.2, 35.4), (23.2, 36.0), (22.0, 37.2)])],
    },
    Disputed {
        name: "the southern Kuril Islands",
        remark: "disputed between Russia and Japan",
        claimants: &["RU", "JP"],
        marks: &[Mark::Outline(
            &["RU"],
            &[(43.2, 145.4), (43.2, 147.5), (45.6, 149.2), (45.6, 146.6), (44.5, 145.2)],
        )],
    },
    Disputed {
        name: "the Falkland Islands, South Georgia and the South Sandwich Islands",
        remark: "administered by the United Kingdom and claimed by Argentina",
        claimants: &["FK", "GS", "AR"],
        marks: &[Mark::Id(&["FK", "GS"])],
    },
];

/// The open water of the upper lake, about a kilometre from its shores.
const OBERSEE: &[(f64, f64)] = &[
    (47.66, 9.22),
    (47.675, 9.27),
    (47.64, 9.46),
    (47.585, 9.52),
    (47.535, 9.66),
    (47.515, 9.71),
    (47.505, 9.68),
    (47.49, 9.50),
    (47.575, 9.39),
    (47.635, 9.24),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::country::Country;

    #[test]
    fn an_outline_holds_its_inside_and_not_its_outside() {
        let square = [(0.0, 0.0), (0.0, 2.0), (2.0, 2.0), (2.0, 0.0)];
        assert!(is_inside(&square, Coordinates::new(1.0, 1.0).unwrap()));
        for (north, east) in [(1.0, 3.0), (1.0, -1.0), (3.0, 1.0), (-1.0, 1.0)] {
            assert!(!is_inside(&square, Coordinates::new(north, east).unwrap()));
        }
        assert!(!is_inside(&[], Coordinates::new(1.0, 1.0).unwrap()));
    }

    #[test]
    fn every_row_names_claimants_and_a_reason() {
        for row in TABLE {
            assert!(!row.claimants.is_empty() && !row.remark.is_empty(), "{}", row.name);
            assert!(row.claimants.iter().all(|code| code.parse::<Country>().is_ok()), "{}", row.name);
        }
    }
}
