//! The square: shop fronts, paving in perspective, a lamp, a bench and two trees.

use super::{
    canvas::{Area, Canvas, Colour, Point, at},
    person::HORIZON,
};

const GLASS: Colour = Colour::rgb(92, 116, 132);
const FRAME: Colour = Colour::rgb(70, 66, 64);

/// One house: where it begins and ends as a share of the width, its colours.
struct House {
    from: f32,
    to: f32,
    wall: Colour,
    awning: Colour,
    /// Top of the wall, as a share of the height.
    roof: f32,
}

const HOUSES: [House; 4] = [
    House {
        from: -0.01,
        to: 0.27,
        wall: Colour::rgb(196, 172, 146),
        awning: Colour::rgb(158, 54, 48),
        roof: 0.0,
    },
    House {
        from: 0.27,
        to: 0.50,
        wall: Colour::rgb(168, 110, 90),
        awning: Colour::rgb(56, 96, 84),
        roof: 0.045,
    },
    House {
        from: 0.50,
        to: 0.79,
        wall: Colour::rgb(208, 200, 186),
        awning: Colour::rgb(62, 80, 126),
        roof: 0.0,
    },
    House {
        from: 0.79,
        to: 1.01,
        wall: Colour::rgb(150, 152, 156),
        awning: Colour::rgb(190, 140, 58),
        roof: 0.065,
    },
];

/// Draws everything that does not move.
pub fn draw(canvas: &mut Canvas<'_>) {
    sky(canvas);
    for house in &HOUSES {
        house.draw(canvas);
    }
    pavement(canvas);
    lamp(canvas, 0.405);
    tree(canvas, 0.055, 0.47);
    tree(canvas, 0.965, 0.48);
    bench(canvas, 0.60);
}

fn sky(canvas: &mut Canvas<'_>) {
    let (width, height) = (canvas.width(), canvas.height());
    let area = Area { left: 0.0, top: 0.0, right: width, bottom: height * HORIZON };
    let (high, low) = (Colour::rgb(148, 182, 214), Colour::rgb(206, 220, 228));
    canvas.shade(area, |point| high.mix(low, point.y / (height * 0.12)));
}

impl House {
    fn draw(&self, canvas: &mut Canvas<'_>) {
        let (width, height) = (canvas.width(), canvas.height());
        let (left, right) = (self.from * width, self.to * width);
        let (top, ground) = (self.roof * height, HORIZON * height);
        let wall = Area { left, top, right: right - 1.0, bottom: ground };
        canvas
            .shade(wall, |point| self.wall.lit(1.0 + grain(point) * 0.05 - (point.y - top) / ground * 0.08));
        canvas.rectangle(left, top, right - left, height * 0.010, self.wall.lit(0.72));
        canvas.rectangle(left, height * 0.188, right - left, height * 0.008, self.wall.lit(0.82));
        self.windows(canvas);
        self.shop(canvas);
    }

    /// One row of windows above the shop.
    fn windows(&self, canvas: &mut Canvas<'_>) {
        let (width, height) = (canvas.width(), canvas.height());
        let span = (self.to - self.from) * width;
        let (w, h) = (span * 0.13, height * 0.092);
        for column in 0_u8..4 {
            let x = self.from * width + span * (0.125 + 0.25 * f32::from(column)) - w / 2.0;
            let y = height * 0.080;
            let edge = height * 0.006;
            canvas.rectangle(x - edge, y - edge, w + 2.0 * edge, h + 2.0 * edge, self.wall.lit(1.18));
            canvas.rectangle(x, y, w, h, GLASS.lit(0.86));
            let glare = [at(x, y), at(x + w * 0.8, y), at(x, y + h * 0.75)];
            canvas.polygon(&glare, GLASS.lit(1.35), 0.55);
            canvas.rectangle(x + w / 2.0 - edge / 3.0, y, edge / 1.5, h, FRAME.lit(1.6));
            canvas.rectangle(x - edge * 1.5, y + h + edge, w + 3.0 * edge, edge, self.wall.lit(0.66));
        }
    }

    /// Display window, door, sign and a striped awning.
    fn shop(&self, canvas: &mut Canvas<'_>) {
        let (width, height) = (canvas.width(), canvas.height());
        let (left, span) = (self.from * width, (self.to - self.from) * width);
        let (top, ground) = (height * 0.250, HORIZON * height);
        let glass = (left + span * 0.08, span * 0.56);
        canvas.rectangle(glass.0 - 3.0, top, glass.1 + 6.0, ground - top - height * 0.02, FRAME);
        let warm = Colour::rgb(226, 196, 142);
        let inside =
            Area { left: glass.0, top: top + 3.0, right: glass.0 + glass.1, bottom: ground - height * 0.026 };
        canvas.shade(inside, |point| warm.mix(GLASS, (point.x - glass.0) / glass.1 * 0.6 + 0.1));
        self.goods(canvas, inside);
        let door = (left + span * 0.72, span * 0.17);
        canvas.rectangle(door.0, top, door.1, ground - top, self.awning.lit(0.55));
        canvas.rectangle(
            door.0 + door.1 * 0.16,
            top + 5.0,
            door.1 * 0.68,
            (ground - top) * 0.66,
            GLASS.lit(0.8),
        );
        canvas.rectangle(
            left + span * 0.05,
            height * 0.205,
            span * 0.90,
            height * 0.024,
            self.awning.lit(0.75),
        );
        self.awning(canvas, left + span * 0.04, span * 0.64);
    }

    /// Things on a shelf behind the glass.
    fn goods(&self, canvas: &mut Canvas<'_>, inside: Area) {
        let (w, bottom) = ((inside.right - inside.left) / 9.0, inside.bottom);
        for number in 0_u8..8 {
            let shade = f32::from(number * 7 % 11) / 11.0;
            let h = (bottom - inside.top) * (0.22 + 0.25 * shade);
            let colour = self.awning.mix(Colour::rgb(236, 226, 200), shade).lit(0.9);
            canvas.rectangle(inside.left + w * (f32::from(number) + 0.55), bottom - h, w * 0.62, h, colour);
        }
    }

    fn awning(&self, canvas: &mut Canvas<'_>, left: f32, span: f32) {
        let height = canvas.height();
        let (top, bottom) = (height * 0.232, height * 0.288);
        let stripe = span / 10.0;
        for number in 0_u8..10 {
            let x = left + stripe * f32::from(number);
            let (lean, colour) =
                (height * 0.012, if number % 2 == 0 { self.awning } else { Colour::rgb(232, 228, 218) });
            let corners =
                [at(x, top), at(x + stripe, top), at(x + stripe - lean, bottom), at(x - lean, bottom)];
            canvas.polygon(&corners, colour, 1.0);
        }
        canvas.rectangle(left - height * 0.012, bottom, span, height * 0.004, Colour::rgb(60, 56, 54));
    }
}

/// Slabs whose joints meet at a vanishing point far above, darker towards the houses.
fn pavement(canvas: &mut Canvas<'_>) {
    let (width, height) = (canvas.width(), canvas.height());
    let horizon = HORIZON * height;
    let area = Area { left: 0.0, top: horizon, right: width, bottom: height };
    let (stone, kerb) = (Colour::rgb(164, 158, 150), Colour::rgb(120, 116, 112));
    // Where the rows of slabs would meet if the square went on behind the houses.
    let vanishing = horizon - height * 0.30;
    canvas.shade(area, |point| {
        let nearness = (point.y - vanishing) / (height - vanishing);
        let (across, along) = ((point.x - width / 2.0) / width / nearness * 9.0, 5.2 / nearness);
        let tone = slab_tone(across.floor(), along.floor()) * 0.07;
        let light = 0.80 + 0.24 * nearness + tone + grain(point) * 0.05;
        let joint =
            joint(across, 9.0 / width / nearness).max(joint(along, 5.2 / nearness / nearness / height));
        stone.lit(light).mix(kerb.lit(light), joint * 0.55)
    });
    canvas.rectangle(0.0, horizon - 1.0, width, height * 0.012, Colour::rgb(112, 106, 100));
    canvas.rectangle(0.0, horizon + height * 0.011, width, height * 0.004, Colour::rgb(84, 80, 78));
}

/// How much of a pixel of this size (in slabs) the joint beside a slab takes.
fn joint(position: f32, pixel: f32) -> f32 {
    let from_joint = (position - position.round()).abs();
    (1.5 - from_joint / pixel.max(f32::EPSILON)).clamp(0.0, 1.0)
}

/// Every slab has its own tone, from -0.5 to 0.5.
fn slab_tone(column: f32, row: f32) -> f32 {
    ((column * 12.989 + row * 78.233).sin() * 43_758.547).rem_euclid(1.0) - 0.5
}

/// Fine noise, from -0.5 to 0.5, as stone has it.
fn grain(point: Point) -> f32 {
    slab_tone(point.x.floor() * 0.371, point.y.floor() * 0.593)
}

fn lamp(canvas: &mut Canvas<'_>, x: f32) {
    let (x, height) = (x * canvas.width(), canvas.height());
    let (foot, top) = (at(x, height * 0.47), at(x, height * 0.10));
    let iron = Colour::rgb(46, 50, 52);
    canvas.ellipse(at(x + 6.0, foot.y), at(height * 0.022, height * 0.006), Colour::rgb(20, 20, 28), 0.35);
    canvas.stroke((foot, height * 0.0075), (top, height * 0.0042), iron);
    canvas.stroke((foot, height * 0.011), (at(x, height * 0.435), height * 0.009), iron);
    canvas.ellipse(
        at(x, height * 0.082),
        at(height * 0.019, height * 0.024),
        Colour::rgb(244, 232, 196),
        1.0,
    );
    canvas.stroke(
        (at(x - height * 0.018, height * 0.060), height * 0.005),
        (at(x + height * 0.018, height * 0.060), height * 0.005),
        iron,
    );
}

fn tree(canvas: &mut Canvas<'_>, x: f32, foot: f32) {
    let (x, height) = (x * canvas.width(), canvas.height());
    let foot = foot * height;
    let bark = Colour::rgb(92, 72, 56);
    canvas.ellipse(
        at(x + height * 0.02, foot),
        at(height * 0.085, height * 0.014),
        Colour::rgb(20, 24, 24),
        0.30,
    );
    canvas.ellipse(at(x, foot), at(height * 0.045, height * 0.010), Colour::rgb(84, 70, 58), 1.0);
    canvas.stroke(
        (at(x, foot), height * 0.013),
        (at(x + height * 0.004, height * 0.22), height * 0.008),
        bark,
    );
    for (number, (dx, dy)) in
        [(0.0, 0.0), (-0.055, 0.03), (0.055, 0.025), (-0.028, -0.045), (0.032, -0.04), (0.0, 0.05)]
            .into_iter()
            .enumerate()
    {
        let light = 0.86 + number as f32 * 0.07;
        let centre = at(x + dx * height, height * 0.19 + dy * height);
        canvas.ellipse(centre, at(height * 0.062, height * 0.054), Colour::rgb(78, 112, 62).lit(light), 1.0);
    }
}

fn bench(canvas: &mut Canvas<'_>, x: f32) {
    let (x, height) = (x * canvas.width(), canvas.height());
    let (left, wide) = (x - height * 0.09, height * 0.18);
    let (wood, iron) = (Colour::rgb(140, 98, 62), Colour::rgb(52, 52, 54));
    canvas.ellipse(
        at(x + 8.0, height * 0.487),
        at(wide * 0.58, height * 0.009),
        Colour::rgb(20, 20, 28),
        0.35,
    );
    for leg in [left + wide * 0.08, left + wide * 0.90] {
        canvas.rectangle(leg, height * 0.432, height * 0.007, height * 0.054, iron);
    }
    for slat in [0.420, 0.434, 0.455] {
        canvas.rectangle(left, height * slat, wide, height * 0.009, wood.lit(0.7 + slat));
    }
}
