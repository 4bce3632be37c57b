//! Figures that look and move enough like people for detectors and onlookers.

use std::f32::consts::TAU;

use super::canvas::{Canvas, Colour, Point, at};

/// Where the ground meets the shops, as a share of the height of the frame.
pub const HORIZON: f32 = 0.40;

/// Somebody who walks across the square, again and again.
#[derive(Clone, Copy, Debug)]
pub struct Person {
    /// Where the feet are, as a share of the height of the frame.
    pub depth: f32,
    /// Body heights in a second; negative to the left.
    pub speed: f32,
    /// Where on the way they are at the start, from 0 to 1.
    pub start: f32,
    /// Height against the usual.
    pub tall: f32,
    pub outfit: Outfit,
}

/// What somebody wears.
#[derive(Clone, Copy, Debug)]
pub struct Outfit {
    pub skin: Colour,
    pub hair: Colour,
    pub top: Colour,
    pub legs: Colour,
    pub shoes: Colour,
    pub carries: Carries,
}

/// What somebody has with them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Carries {
    Nothing,
    Backpack(Colour),
    Bag(Colour),
    /// The top reaches down to the knees.
    Coat,
}

/// Joints of a figure, for one moment.
struct Pose {
    /// Body height in pixels.
    height: f32,
    /// 1 to the right, -1 to the left.
    facing: f32,
    feet: Point,
    /// Angle of the walk, a full turn for two steps.
    phase: f32,
}

impl Person {
    /// Draws the figure where it is at so many seconds.
    pub fn draw(&self, canvas: &mut Canvas<'_>, seconds: f32) {
        let pose = self.pose(canvas, seconds);
        let (height, outfit) = (pose.height, &self.outfit);
        let shadow = at(pose.feet.x + height * 0.10, pose.feet.y);
        canvas.ellipse(shadow, at(height * 0.26, height * 0.035), Colour::rgb(20, 20, 28), 0.35);
        // What is on the far side of the body comes first, a little darker.
        pose.arm(canvas, TAU / 2.0, outfit, 0.72);
        pose.leg(canvas, 0.0, outfit, 0.72);
        pose.leg(canvas, TAU / 2.0, outfit, 1.0);
        pose.carried(canvas, outfit);
        pose.body(canvas, outfit);
        pose.head(canvas, outfit);
        pose.arm(canvas, 0.0, outfit, 1.08);
    }

    fn pose(&self, canvas: &Canvas<'_>, seconds: f32) -> Pose {
        let (width, frame_height) = (canvas.width(), canvas.height());
        let height = frame_height * (self.depth - HORIZON) * 0.88 * self.tall + frame_height * 0.06;
        let margin = height * 0.5;
        let way = width + 2.0 * margin;
        let walked = seconds * self.speed * height;
        let x = (self.start * way + walked).rem_euclid(way) - margin;
        Pose {
            height,
            facing: self.speed.signum(),
            feet: at(x, frame_height * self.depth),
            // A step is about 0.42 body heights long.
            phase: (seconds * self.speed.abs() / 0.84 * TAU).rem_euclid(TAU),
        }
    }
}

impl Pose {
    /// A point of the body: forwards and upwards from between the feet, in body heights.
    fn joint(&self, forwards: f32, upwards: f32) -> Point {
        let bob = (2.0 * self.phase).cos() * 0.006;
        at(self.feet.x + self.facing * forwards * self.height, self.feet.y - (upwards + bob) * self.height)
    }

    /// The end of a limb that hangs from `from` at an angle (forwards is positive).
    fn hang(&self, from: Point, angle: f32, length: f32) -> Point {
        let (sine, cosine) = angle.sin_cos();
        let length = length * self.height;
        at(from.x + self.facing * sine * length, from.y + cosine * length)
    }

    fn leg(&self, canvas: &mut Canvas<'_>, offset: f32, outfit: &Outfit, light: f32) {
        let swing = (self.phase + offset).sin();
        let lifted = (self.phase + offset).cos().max(0.0);
        let hip = self.joint(0.0, 0.50);
        let knee = self.hang(hip, swing * 0.46 + lifted * 0.14, 0.245);
        let shin = swing * 0.38 - 0.10 - lifted * 0.75;
        let ankle = self.hang(knee, shin, 0.225);
        let toe = self.hang(ankle, shin + 1.35, 0.075);
        let unit = self.height;
        canvas.stroke((hip, unit * 0.062), (knee, unit * 0.046), outfit.legs.lit(light));
        canvas.stroke((knee, unit * 0.046), (ankle, unit * 0.032), outfit.legs.lit(light));
        canvas.stroke((ankle, unit * 0.027), (toe, unit * 0.020), outfit.shoes.lit(light));
    }

    fn arm(&self, canvas: &mut Canvas<'_>, offset: f32, outfit: &Outfit, light: f32) {
        let swing = (self.phase + offset).sin();
        let shoulder = self.joint(0.005, 0.795);
        let elbow = self.hang(shoulder, swing * 0.50, 0.165);
        let hand = self.hang(elbow, swing * 0.50 + 0.32, 0.145);
        let unit = self.height;
        canvas.stroke((shoulder, unit * 0.040), (elbow, unit * 0.031), outfit.top.lit(light * 0.93));
        canvas.stroke((elbow, unit * 0.030), (hand, unit * 0.022), outfit.top.lit(light * 0.93));
        canvas.ellipse(hand, at(unit * 0.024, unit * 0.026), outfit.skin.lit(light), 1.0);
        if let (Carries::Bag(colour), true) = (outfit.carries, light > 1.0) {
            let bag = at(hand.x, hand.y + unit * 0.085);
            canvas.stroke((hand, unit * 0.008), (bag, unit * 0.008), colour.lit(0.7));
            canvas.rectangle(bag.x - unit * 0.06, bag.y - unit * 0.035, unit * 0.12, unit * 0.10, colour);
        }
    }

    fn carried(&self, canvas: &mut Canvas<'_>, outfit: &Outfit) {
        if let Carries::Backpack(colour) = outfit.carries {
            let unit = self.height;
            let (top, bottom) = (self.joint(-0.095, 0.755), self.joint(-0.105, 0.625));
            canvas.stroke((top, unit * 0.062), (bottom, unit * 0.072), colour);
        }
    }

    fn body(&self, canvas: &mut Canvas<'_>, outfit: &Outfit) {
        let unit = self.height;
        let (chest, waist) = (self.joint(0.008, 0.755), self.joint(0.0, 0.545));
        if outfit.carries == Carries::Coat {
            let hem = self.joint(0.0, 0.33);
            canvas.stroke((waist, unit * 0.080), (hem, unit * 0.098), outfit.top.lit(0.95));
        }
        canvas.stroke((chest, unit * 0.088), (waist, unit * 0.076), outfit.top);
        // Light falls from the upper left.
        let lit = at(chest.x - unit * 0.035, chest.y - unit * 0.01);
        canvas.stroke((lit, unit * 0.030), (at(lit.x, waist.y), unit * 0.022), outfit.top.lit(1.10));
    }

    fn head(&self, canvas: &mut Canvas<'_>, outfit: &Outfit) {
        let unit = self.height;
        let (neck, head) = (self.joint(0.012, 0.84), self.joint(0.024, 0.928));
        canvas.stroke((neck, unit * 0.030), (head, unit * 0.032), outfit.skin.lit(0.85));
        let hair = self.joint(0.010, 0.942);
        canvas.ellipse(hair, at(unit * 0.062, unit * 0.064), outfit.hair, 1.0);
        let face = self.joint(0.036, 0.920);
        canvas.ellipse(face, at(unit * 0.044, unit * 0.054), outfit.skin, 1.0);
        let fringe = self.joint(0.026, 0.966);
        canvas.ellipse(fringe, at(unit * 0.052, unit * 0.026), outfit.hair, 1.0);
    }
}

/// Everybody who walks across the square.
pub const CAST: [Person; 7] = [
    Person {
        depth: 0.52,
        speed: 0.74,
        start: 0.15,
        tall: 1.0,
        outfit: Outfit {
            skin: Colour::rgb(224, 180, 150),
            hair: Colour::rgb(70, 46, 30),
            top: Colour::rgb(178, 52, 46),
            legs: Colour::rgb(48, 58, 84),
            shoes: Colour::rgb(40, 34, 32),
            carries: Carries::Nothing,
        },
    },
    Person {
        depth: 0.55,
        speed: -0.66,
        start: 0.60,
        tall: 0.94,
        outfit: Outfit {
            skin: Colour::rgb(150, 102, 72),
            hair: Colour::rgb(28, 24, 24),
            top: Colour::rgb(226, 178, 64),
            legs: Colour::rgb(70, 66, 62),
            shoes: Colour::rgb(230, 228, 222),
            carries: Carries::Backpack(Colour::rgb(38, 92, 88)),
        },
    },
    Person {
        depth: 0.615,
        speed: 0.62,
        start: 0.48,
        tall: 0.97,
        outfit: Outfit {
            skin: Colour::rgb(236, 196, 170),
            hair: Colour::rgb(176, 128, 70),
            top: Colour::rgb(58, 74, 112),
            legs: Colour::rgb(36, 36, 44),
            shoes: Colour::rgb(90, 54, 36),
            carries: Carries::Coat,
        },
    },
    Person {
        depth: 0.68,
        speed: -0.80,
        start: 0.05,
        tall: 1.03,
        outfit: Outfit {
            skin: Colour::rgb(208, 158, 122),
            hair: Colour::rgb(46, 38, 36),
            top: Colour::rgb(222, 224, 226),
            legs: Colour::rgb(62, 86, 132),
            shoes: Colour::rgb(190, 60, 50),
            carries: Carries::Nothing,
        },
    },
    Person {
        depth: 0.745,
        speed: 0.70,
        start: 0.85,
        tall: 0.93,
        outfit: Outfit {
            skin: Colour::rgb(120, 82, 60),
            hair: Colour::rgb(24, 20, 20),
            top: Colour::rgb(120, 68, 138),
            legs: Colour::rgb(52, 50, 56),
            shoes: Colour::rgb(60, 58, 60),
            carries: Carries::Bag(Colour::rgb(206, 120, 60)),
        },
    },
    Person {
        depth: 0.83,
        speed: -0.64,
        start: 0.72,
        tall: 0.98,
        outfit: Outfit {
            skin: Colour::rgb(230, 188, 158),
            hair: Colour::rgb(150, 148, 146),
            top: Colour::rgb(72, 112, 82),
            legs: Colour::rgb(104, 90, 74),
            shoes: Colour::rgb(58, 42, 34),
            carries: Carries::Bag(Colour::rgb(150, 48, 60)),
        },
    },
    Person {
        depth: 0.93,
        speed: 0.78,
        start: 0.30,
        tall: 1.0,
        outfit: Outfit {
            skin: Colour::rgb(214, 168, 134),
            hair: Colour::rgb(88, 52, 34),
            top: Colour::rgb(48, 122, 158),
            legs: Colour::rgb(40, 46, 60),
            shoes: Colour::rgb(228, 226, 220),
            carries: Carries::Backpack(Colour::rgb(70, 66, 74)),
        },
    },
];
