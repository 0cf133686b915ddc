//! ISO 8601 as Celery reads it for `eta` and `expires`: the grammar of `dateutil.parser.isoparse`.
//!
//! Dates: `YYYY`, `YYYY-MM`, `YYYY-MM-DD`, `YYYYMMDD`, week dates and ordinal dates. Any one character, then
//! `hh[[:]mm[[:]ss[(.|,)f+]]]` and `Z` or an offset. Fields are read by Python's `int`, so blanks, signs and
//! underscores pass where they pass there. A time without an offset is UTC.

const DAY_S: i64 = 86_400;

/// Seconds since the Unix epoch, or `None` where Celery reports an invalid value.
#[must_use]
pub fn parse_iso8601(text: &[u8]) -> Option<f64> {
    if !text.is_ascii() {
        return None;
    }
    let (date, consumed) = common_date(text).or_else(|| uncommon_date(text))?;
    let mut days = days_from_civil(date)?;
    let time = if text.len() > consumed { parse_time(&text[consumed + 1..])? } else { Time::default() };
    let mut hour = time.fields[0];
    if hour == 24 {
        hour = 0;
        days += 1;
        if days > days_from_civil((9999, 12, 31))? {
            return None;
        }
    }
    let [_, minute, second] = time.fields;
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
        return None;
    }
    let whole = days * DAY_S + hour * 3600 + minute * 60 + second - time.offset_s;
    Some(whole as f64 + time.microseconds as f64 / 1e6)
}

/// Year, month, day as written; ranges are checked later.
type Date = (i64, i64, i64);

fn common_date(text: &[u8]) -> Option<(Date, usize)> {
    let year = integer(text.get(..4)?)?;
    let mut position = 4;
    if position == text.len() {
        return Some(((year, 1, 1), position));
    }
    let separated = text[position] == b'-';
    position += usize::from(separated);
    let month = integer(text.get(position..position + 2)?)?;
    position += 2;
    if position == text.len() {
        return separated.then_some(((year, month, 1), position));
    }
    if separated {
        if text[position] != b'-' {
            return None;
        }
        position += 1;
    }
    let day = integer(text.get(position..position + 2)?)?;
    Some(((year, month, day), position + 2))
}

/// Week dates and ordinal dates.
fn uncommon_date(text: &[u8]) -> Option<(Date, usize)> {
    let year = integer(text.get(..4)?)?;
    let separated = text.get(4) == Some(&b'-');
    let mut position = 4 + usize::from(separated);
    let first_day = days_from_civil((year, 1, 1))?;
    if text.get(position) != Some(&b'W') {
        let ordinal = integer(text.get(position..position + 3)?)?;
        let length = days_from_civil((year, 12, 31))? - first_day + 1;
        let date = (1..=length).contains(&ordinal).then(|| civil_from_days(first_day + ordinal - 1))?;
        return Some((date, position + 3));
    }
    position += 1;
    let week = integer(text.get(position..(position + 2).min(text.len()))?)?;
    position = (position + 2).min(text.len());
    let mut day = 1;
    if position < text.len() {
        if (text[position] == b'-') != separated {
            return None;
        }
        position += usize::from(separated);
        day = integer(text.get(position..position + 1)?)?;
        position += 1;
    }
    if !(1..=53).contains(&week) || !(1..=7).contains(&day) {
        return None;
    }
    // The fourth of January is always in the first week; the epoch was a Thursday.
    let fourth = first_day + 3;
    let monday = fourth - (fourth + 3).rem_euclid(7);
    Some((civil_from_days(monday + (week - 1) * 7 + day - 1), position))
}

#[derive(Default)]
struct Time {
    fields: [i64; 3],
    microseconds: i64,
    offset_s: i64,
}

fn parse_time(text: &[u8]) -> Option<Time> {
    if text.len() < 2 {
        return None;
    }
    let mut time = Time::default();
    let mut position = 0;
    let mut separated = false;
    for field in 0..3 {
        if position >= text.len() {
            break;
        }
        if is_zone_start(text[position]) {
            time.offset_s = parse_offset(&text[position..])?;
            return finished(time);
        }
        if field == 1 && text[position] == b':' {
            separated = true;
            position += 1;
        } else if field == 2 && separated {
            if text[position] != b':' {
                return None;
            }
            position += 1;
        }
        let end = (position + 2).min(text.len());
        time.fields[field] = integer(&text[position..end])?;
        position = end;
    }
    if matches!(text.get(position), Some(b'.' | b',')) {
        let digits = text[position + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for index in 0..6 {
            let digit = if index < digits { text[position + 1 + index] - b'0' } else { 0 };
            time.microseconds = time.microseconds * 10 + i64::from(digit);
        }
        position += 1 + digits;
    }
    if position < text.len() {
        time.offset_s = if is_zone_start(text[position]) { parse_offset(&text[position..])? } else { return None };
    }
    finished(time)
}

/// 24 hours stand for midnight only.
fn finished(time: Time) -> Option<Time> {
    let [hour, minute, second] = time.fields;
    (hour != 24 || (minute, second, time.microseconds) == (0, 0, 0)).then_some(time)
}

fn is_zone_start(byte: u8) -> bool {
    matches!(byte, b'-' | b'+' | b'Z' | b'z')
}

fn parse_offset(text: &[u8]) -> Option<i64> {
    if text == b"Z" || text == b"z" {
        return Some(0);
    }
    if !matches!(text.len(), 3 | 5 | 6) {
        return None;
    }
    let sign = match text[0] {
        b'-' => -1,
        b'+' => 1,
        _ => return None,
    };
    let hours = integer(&text[1..3])?;
    let minutes = match text.get(3) {
        None => 0,
        Some(b':') => integer(&text[4..])?,
        Some(_) => integer(&text[3..])?,
    };
    let total = hours * 60 + minutes;
    // A whole day or more is no offset to Python either.
    (minutes <= 59 && hours <= 23 && total.abs() < 24 * 60).then_some(sign * total * 60)
}

/// Python's `int(bytes)` for a short field.
fn integer(field: &[u8]) -> Option<i64> {
    if let [b'0'..=b'9', ..] = field
        && field.iter().all(u8::is_ascii_digit)
    {
        return Some(field.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let start = field.iter().position(|byte| !blank(byte))?;
    let end = field.iter().rposition(|byte| !blank(byte))? + 1;
    let (negative, digits) = match &field[start..end] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let mut value = 0;
    let mut after_digit = false;
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                value = value * 10 + i64::from(byte - b'0');
                after_digit = true;
            }
            b'_' if after_digit => after_digit = false,
            _ => return None,
        }
    }
    after_digit.then_some(if negative { -value } else { value })
}

/// Days since the epoch of a date in the years 1 to 9999.
fn days_from_civil((year, month, day): Date) -> Option<i64> {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = *LENGTHS.get(usize::try_from(month - 1).ok()?)? + i64::from(leap && month == 2);
    if !(1..=9999).contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    // Years that begin in March put the leap day at their end.
    let shifted = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468)
}

/// The inverse of `days_from_civil`, also outside its years.
fn civil_from_days(days: i64) -> Date {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    /// What `dateutil.parser.isoparse` made of these, naive dates taken as UTC.
    const CASES: &[(&str, Option<f64>)] = &[
        ("2020", Some(1577836800.0)),
        ("202012", None),
        ("2020-12", Some(1606780800.0)),
        ("2020-12-01T10", Some(1606816800.0)),
        ("20201201T101112,1234567Z", Some(1606817472.123456)),
        ("2020-12-01 10:11:12.5+0530", Some(1606797672.5)),
        ("2020-336", Some(1606780800.0)),
        ("2020W101", Some(1583107200.0)),
        ("2020-W10-1T24:00", Some(1583193600.0)),
        ("2020-12-01T10:11:12.", None),
        ("2020-12-01T", None),
        ("2020-12-01T10:11:12-00:00", Some(1606817472.0)),
        ("2020-12-01T10:11:12+00:61", None),
        ("2020-12-01T10:11:12+24:00", None),
        ("2020-12-01T10:11:12 Z", None),
        ("2020-12-01T10:11:12z", Some(1606817472.0)),
        ("2020-12-01T10:11:1", Some(1606817461.0)),
        ("2020-W53-7", Some(1609632000.0)),
        ("2021-W53-1", Some(1641168000.0)),
        ("2020-12-01T10:1112", None),
        ("2020-12-01T1011:12", None),
        ("2020-12-01T23:59:60", None),
        ("202-12-01", None),
        ("2020-1-01", None),
        ("2020-12-1", None),
        ("2020-12-01TZ", None),
        ("2020-12T10", None),
        ("2020-366", Some(1609372800.0)),
        ("2021-366", None),
        ("2020Z", None),
        ("0000-01-01", None),
        ("9999-12-31T24:00", None),
        ("2020-12-01T10:11:12.123456789+01", Some(1606813872.123456)),
        ("2020-12-01T10:11:12.+01", None),
        ("2020-12-01T24:00:00.5", None),
        ("2020-12-01\u{e9}10:00", None),
        ("20201201+10", Some(1606816800.0)),
        ("2020-12-01T10Z", Some(1606816800.0)),
        ("2020-12-01T10+01", Some(1606813200.0)),
        ("2020-12-01T10.5", None),
        ("2020-12-01T-10", Some(1606816800.0)),
        ("+2020-12-01", None),
        ("2020-12-01T10:11:12+1:00", None),
        ("2020-12-01T10:11:12+01:0", Some(1606813872.0)),
        ("2020-12-01T10:11:12+01:00x", None),
        ("2020-12-01T10:11:12+0100:00", None),
        (" 020-12-01", Some(-61507123200.0)),
        ("2020- 1-01", Some(1577836800.0)),
        ("2020-12-01T1_:00", None),
        ("2020-12-01T 1:00", Some(1606784400.0)),
        ("1900-02-29", None),
        ("2000-02-29", Some(951782400.0)),
        ("", None),
    ];

    #[test]
    fn reads_what_dateutil_reads() {
        for (text, expected) in CASES {
            assert_eq!(parse_iso8601(text.as_bytes()), *expected, "{text:?}");
        }
    }

    #[test]
    fn dates_and_days_are_inverse() {
        for days in -719_162..2_932_897 {
            assert_eq!(days_from_civil(civil_from_days(days)), Some(days));
        }
    }

    proptest! {
        #[test]
        fn almost_dates_give_a_time_of_the_calendar_or_nothing(text in "[0-9TWZ:.,+_ -]{0,32}", raw: Vec<u8>) {
            for text in [text.as_bytes(), &raw] {
                if let Some(seconds) = parse_iso8601(text) {
                    prop_assert!((-62_135_700_000.0..253_402_400_000.0).contains(&seconds), "{seconds}");
                }
            }
        }
    }
}
