"""Draws one procedural face from back to front: its photograph and its label map."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sharding.procedural.canvas import (
    MIN_BLUR_PX,
    Canvas,
    darker,
    ellipse,
    mirrored,
    mix,
    ribbon,
    shifted,
    smooth,
)
from sharding.procedural.face_shape import Drawing, Face, Floats, Points, Shape

CURVE_POINTS: Final = 25
BLACK: Final = (0.0, 0.0, 0.0)
WHITE: Final = (255.0, 255.0, 255.0)
GOLD: Final = (228.0, 208.0, 150.0)
HAIR_SHADOW: Final = (15.0, 8.0, 5.0)


def draw_face(face: Face, rng: np.random.Generator) -> Drawing:
    """Draws a face from back to front; `rng` gives only textures, clutter and noise."""
    canvas = Canvas(face, rng)
    draw_body(canvas, face)
    draw_head(canvas, face)
    draw_mouth(canvas, face)
    draw_nose(canvas, face)
    for side in (-1, 1):
        draw_eye(canvas, face, side)
        draw_brow(canvas, face, side)
    draw_hair(canvas, face)
    if face.style.hat:
        draw_hat(canvas, face)
    if face.style.glasses:
        draw_glasses(canvas, face)
    return Drawing(photograph(canvas.image, face, rng), np.array(canvas.parts))


def draw_body(canvas: Canvas, face: Face) -> None:
    """Draws the hair behind the head, neck, clothes and necklace."""
    pose, style, look = face.pose, face.style, face.look
    if not style.bald and style.hair_length > 0:
        wide, low = 1.15 + style.hair_volume, style.hair_length
        half = [(0.0, -1.7 - style.hair_volume * 0.6), (0.7, -1.55), (wide, -0.7)]
        half += [(wide + 0.05, 0.3), (wide + 0.05, low), (0.4, low + 0.15), (0.0, low)]
        back = pose.lean(smooth(mirrored(half)))
        canvas.fill(back, darker(look.hair, 0.6), "hair", texture=canvas.strands, lit=0.3)
    chin = 1.8 + face.shape.chin
    half = [(0.0, 1.0), (0.62, 1.0), (0.62, chin + 0.2), (0.8, chin + 1.2), (0.0, chin + 1.2)]
    neck = smooth(mirrored(half))
    canvas.fill(neck, darker(look.skin, 0.8), "neck", lit=0.4, texture=canvas.grain)
    collar = chin + 0.42
    half = [(0.0, collar + 0.25), (0.6, collar - 0.1), (1.5, collar + 0.2), (2.6, collar + 0.8)]
    cloth = smooth(mirrored([*half, (2.8, 6.0), (0.0, 6.0)]))
    canvas.fill(cloth, look.cloth, "cloth", lit=0.0, texture=canvas.grain)
    if style.necklace:
        beads = [(-0.66, collar - 0.25), (0.0, collar + 0.1), (0.66, collar - 0.25)]
        line = smooth(beads, closed=False)
        canvas.fill(ribbon(line, 0.035), GOLD, "neck_l", lit=0.0)


def face_outline(face: Face) -> Points:
    """Returns the outline of the face, [K, 2], turned with the head."""
    jaw, chin = face.shape.jaw, face.shape.chin
    half = [(0.0, -1.5), (0.5, -1.42), (0.86, -1.0), (0.98, -0.45), (1.0, 0.05)]
    half += [(0.94 + 0.5 * jaw, 0.55), (0.76 + jaw, 1.12), (0.46 + 1.2 * jaw, 1.6 + chin)]
    half += [(0.18, 1.83 + chin), (0.0, 1.86 + chin)]
    return face.pose.lean(smooth(mirrored(half)))


def draw_head(canvas: Canvas, face: Face) -> None:
    """Draws ears, skin and beard."""
    look = face.look
    for side, name in ((-1, "r_ear"), (1, "l_ear")):
        x = side * 1.02 - 0.3 * face.pose.yaw  # the ear that looks at the viewer moves in
        ear, hollow = ellipse(x, 0.22, 0.15, 0.33), ellipse(x + side * 0.03, 0.22, 0.07, 0.2)
        canvas.fill(ear, darker(look.skin, 0.92), name, lit=0.6, texture=canvas.grain)
        canvas.fill(hollow, darker(look.skin, 0.6), blur=0.04, opacity=0.7)
        if face.style.earrings:
            canvas.fill(ellipse(x, 0.66, 0.06, 0.12), GOLD, "ear_r", lit=0.0)
    skin = face_outline(face)
    canvas.fill(shifted(skin, 0.0, 0.1), BLACK, opacity=0.45, blur=0.1)
    canvas.fill(skin, look.skin, "skin", texture=canvas.grain)
    flush = darker(mix(look.skin, (225.0, 60.0, 60.0), 0.3), 0.95)
    for side in (-1, 1):
        cheek = face.pose.turn(ellipse(side * 0.6, 0.55, 0.25, 0.2))
        canvas.fill(cheek, flush, blur=0.12, opacity=0.2 + 0.5 * look.makeup_opacity)
    if face.style.beard > 0:
        mouth, opacity = face.shape.mouth_height, face.style.beard
        half = [(0.0, mouth - 0.32), (0.35, mouth - 0.26), (0.62, mouth + 0.1), (0.92, 0.35)]
        beard = face.pose.lean(smooth(mirrored([*half, (1.3, 0.9), (0.9, 2.4), (0.0, 2.4)])))
        canvas.fill(beard, look.brow, opacity=opacity, blur=0.05, texture=canvas.grain, within=skin)


def draw_nose(canvas: Canvas, face: Face) -> None:
    """Draws the nose, which differs from the skin by light, shadow and nostrils alone."""
    look, shape, turn = face.look, face.shape, face.pose.turn
    wide, low = shape.nose_width, shape.nose_length

    def lifted(points: Points) -> Points:
        middle = np.clip(1 - np.abs(points[:, 0]) / (1.3 * wide), 0, 1)
        return turn(points, 0.3 * middle * np.clip(points[:, 1] / low, 0, 1))

    half = [(0.0, -0.08), (0.11, -0.05), (0.13, 0.2), (0.60 * wide, 0.6 * low), (wide, 0.83 * low)]
    half += [(0.93 * wide, 0.97 * low), (0.5 * wide, low + 0.03), (0.0, low + 0.07)]
    nose = lifted(smooth(mirrored(half)))
    side = -1.0 if look.light[0] > 0 else 1.0
    shadow = darker(look.skin, 0.45)
    strength = 0.15 + 0.45 * (1 - look.ambient)
    canvas.fill(shifted(nose, side * 0.09, 0.05), shadow, blur=0.07, opacity=strength)
    flesh = mix(look.skin, (215.0, 90.0, 80.0), 0.07)
    canvas.fill(nose, flesh, "nose", blur=0.05, texture=canvas.grain)
    flank = np.array([(0.05, 0.1), (0.12, 0.1), (0.75 * wide, 0.7 * low), (0.4 * wide, 0.75 * low)])
    canvas.fill(lifted(flank * (side, 1.0)), shadow, blur=0.05, opacity=0.6 * strength)
    canvas.fill(lifted(ellipse(0.0, low + 0.02, 0.7 * wide, 0.05)), shadow, blur=0.03, opacity=0.55)
    for x in (-1.0, 1.0):
        wing = np.array([(0.85, 0.72), (1.02, 0.83), (0.95, 0.97), (0.8, 1.0)]) * (x * wide, low)
        canvas.fill(lifted(ribbon(wing, 0.02)), shadow, blur=0.02, opacity=0.45)
        nostril = ellipse(x * 0.48 * wide, low - 0.03, 0.27 * wide, 0.045)
        canvas.fill(lifted(nostril), darker(look.skin, 0.22), blur=0.015, opacity=0.85)
    shine = mix(look.skin, WHITE, 0.6)
    tip = ellipse(-side * 0.04, low - 0.17, 0.06, 0.06)
    canvas.fill(lifted(tip), shine, blur=0.04, opacity=0.35)
    ridge = ribbon(np.array([(0.0, 0.1), (-side * 0.02, 0.6 * low)]), 0.03)
    canvas.fill(lifted(ridge), shine, blur=0.04, opacity=0.25)


def mouth_curves(shape: Shape) -> tuple[Points, Points, Points, Points]:
    """Returns the lips' four edges from top to bottom, each [25, 2] from the viewer's left."""
    t = np.linspace(-1.0, 1.0, CURVE_POINTS)
    bulge = 1 - t**2
    middle = shape.mouth_height - shape.smile * t**2 + shape.mouth_skew * t + 0.02 * bulge
    bow = 1 - 0.28 * np.exp(-((t / 0.16) ** 2))
    inner_top = middle - 0.35 * shape.mouth_open * bulge
    inner_low = middle + 0.65 * shape.mouth_open * bulge**0.8
    top = inner_top - shape.upper_lip * (1 - np.abs(t) ** 1.6) * bow
    low = inner_low + shape.lower_lip * (1 - np.abs(t) ** 2.4)

    def edge(y: Points) -> Points:
        return np.stack([shape.mouth_width * t, y], axis=1)

    return edge(top), edge(inner_top), edge(inner_low), edge(low)


def draw_mouth(canvas: Canvas, face: Face) -> None:
    """Draws the lips, what is seen between them, and the folds beside them."""
    look, shape, turn = face.look, face.shape, face.pose.turn
    top, inner_top, inner_low, low = (turn(curve, 0.06) for curve in mouth_curves(shape))
    whole, upper = np.concatenate([top, low[::-1]]), np.concatenate([top, inner_top[::-1]])
    shadow = darker(look.skin, 0.45)
    canvas.fill(shifted(whole, 0.0, 0.09), shadow, blur=0.08, opacity=0.35)
    canvas.fill(whole, look.lips, "l_lip", blur=0.012, texture=canvas.grain)
    canvas.fill(upper, darker(look.lips, 0.82), "u_lip", blur=0.012, texture=canvas.grain)
    shine_y = shape.mouth_height + 0.65 * shape.mouth_open + 0.5 * shape.lower_lip
    shine = turn(ellipse(0.0, shine_y, 0.14, 0.025), 0.06)
    canvas.fill(shine, WHITE, blur=0.025, opacity=0.25)
    if shape.mouth_open > 0:
        draw_inner_mouth(canvas, face, inner_top, inner_low)
    else:
        canvas.fill(ribbon(inner_top, 0.012), darker(look.lips, 0.35), blur=0.012, opacity=0.8)
    depth = 0.12 + 1.6 * max(0.0, shape.smile)
    fold = [(1.1 * shape.nose_width, shape.nose_length - 0.1), (0.5, 0.9)]
    fold += [(shape.mouth_width + 0.1, shape.mouth_height)]
    for side in (-1.0, 1.0):
        line = turn(smooth([(side * x, y) for x, y in fold], closed=False))
        canvas.fill(ribbon(line, 0.02), shadow, blur=0.03, opacity=depth)


def draw_inner_mouth(canvas: Canvas, face: Face, top: Points, low: Points) -> None:
    """Draws tongue and teeth in a dark mouth, between the lips' inner edges, both [K, 2]."""
    shape = face.shape
    inner = np.concatenate([top, low[::-1]])
    canvas.fill(inner, (62.0, 18.0, 20.0), "mouth", lit=0.4)
    middle = shape.mouth_height + 0.6 * shape.mouth_open
    tongue = face.pose.turn(ellipse(0.0, middle, 0.25, 0.35 * shape.mouth_open), 0.03)
    canvas.fill(tongue, (165.0, 70.0, 75.0), within=inner, blur=0.02, opacity=0.8, lit=0.5)
    if shape.teeth:
        depth = min(0.12, 0.7 * shape.mouth_open)
        teeth = np.concatenate([shifted(top, 0.0, -depth), shifted(top, 0.0, depth)[::-1]])
        canvas.fill(teeth, (232.0, 226.0, 212.0), within=inner, blur=0.012, lit=0.6)


def draw_eye(canvas: Canvas, face: Face, side: int) -> None:
    """Draws the eye at the viewer's left (-1) or right (1), with its socket, lids and lashes."""
    look, shape, turn = face.look, face.shape, face.pose.turn
    t = np.linspace(-1.0, 1.0, CURVE_POINTS)
    opening = shape.eye_open[(side + 1) // 2]
    middle = -shape.eye_slant * side * t
    x = side * shape.eye_apart + shape.eye_width * t
    upper = np.stack([x, middle - opening * (1 - np.abs(t) ** 2.2)], axis=1)
    lower = np.stack([x, middle + (0.035 + 0.35 * opening) * (1 - t**2)], axis=1)
    ball = turn(np.concatenate([upper, lower[::-1]]))
    around = turn(ellipse(side * shape.eye_apart, -0.08, shape.eye_width * 1.25, 0.17))
    canvas.fill(around, look.makeup, blur=0.06, opacity=look.makeup_opacity)
    crease = shifted(upper, 0.0, 0.1 * opening - 0.084)
    canvas.fill(turn(ribbon(crease, 0.013)), darker(look.skin, 0.4), blur=0.015, opacity=0.5)
    lash = np.interp(side * t, (-1, 1), (0.008, 0.03))
    canvas.fill(turn(ribbon(upper, lash)), darker(look.brow, 0.4), blur=0.008, opacity=0.9, lit=0.3)
    canvas.fill(turn(ribbon(lower, 0.008)), darker(look.skin, 0.4), blur=0.012, opacity=0.6)
    name = "l_eye" if side > 0 else "r_eye"
    canvas.fill(ball, (222.0, 216.0, 212.0), name, blur=0.006, lit=0.8)
    centre = np.array([(side * shape.eye_apart + shape.gaze[0], shape.gaze[1] - 0.02)])
    iris_x, iris_y = turn(centre)[0].tolist()
    rings = ((0.105, darker(look.iris, 0.55)), (0.085, look.iris), (0.044, (12.0, 10.0, 10.0)))
    for radius, colour in rings:
        round_iris = ellipse(iris_x, iris_y, radius, radius / face.pose.stretch)
        canvas.fill(round_iris, colour, within=ball, lit=0.5)
    canvas.fill(turn(ribbon(upper, 0.03)), (20.0, 12.0, 10.0), within=ball, blur=0.02, opacity=0.5)
    glint = ellipse(iris_x + 0.04 * look.light[0], iris_y - 0.035, 0.022, 0.022)
    canvas.fill(glint, WHITE, within=ball, lit=0.0, opacity=0.85)


def draw_brow(canvas: Canvas, face: Face, side: int) -> None:
    """Draws the brow at the viewer's left (-1) or right (1), a tapering band of hair."""
    shape, look = face.shape, face.look
    t = np.linspace(0.0, 1.0, CURVE_POINTS)
    height = shape.brow_height[(side + 1) // 2]
    x = side * (shape.eye_apart - shape.eye_width - 0.06 + shape.brow_length * t)
    arch = shape.brow_arch * np.sin(np.pi * np.minimum(1.0, 0.85 * t + 0.05))
    y = height - arch + shape.brow_tilt * (0.5 - t)
    half_width = shape.brow_thick * (0.55 + 0.75 * t) * (1 - 0.9 * t**2.5)
    line = np.stack([x, y], axis=1)
    outline, core = (face.pose.turn(ribbon(line, share * half_width)) for share in (1.0, 0.55))
    name = "l_brow" if side > 0 else "r_brow"
    colour = mix(look.skin, look.brow, look.brow_opacity)
    canvas.fill(outline, colour, name, blur=0.022, texture=canvas.grain)
    canvas.fill(core, look.brow, blur=0.02, opacity=0.6 * look.brow_opacity, texture=canvas.strands)


def front_hair(face: Face) -> Points:
    """Returns the outline of the hair from the crown to its edge on the forehead, [K, 2]."""
    style, pose = face.style, face.pose
    x = np.linspace(0.98, -0.98, 41)
    edge = style.hairline + 0.75 * (-0.35 - style.hairline) * np.abs(x) ** 3
    sweep = np.clip((x * style.fringe_side + 0.55) / 1.2, 0.0, 1.0)
    edge = edge + style.fringe * sweep**0.8
    edge = edge + 0.05 * np.sin(x * 23 + style.hairline * 40) * np.cos(x * 9) * (0.4 + style.fringe)
    inner = pose.turn(np.stack([x, edge], axis=1))
    crown, wide = 1.68 + 0.7 * style.hair_volume, 1.03 + 0.6 * style.hair_volume
    half = [(-wide, 0.0), (-wide - 0.02, -0.6), (-0.85 * wide, -1.15), (-0.5, 0.12 - crown)]
    outer = [*half, (0.0, -crown), *((-x, y) for x, y in reversed(half))]
    return np.concatenate([pose.lean(smooth(outer, closed=False)), inner])


def falling_hair(face: Face, side: int) -> Points:
    """Returns the outline of long hair that covers one edge of the face, [K, 2]."""
    style = face.style
    cover, low = style.side_cover[(side + 1) // 2], style.hair_length
    wide = 1.03 + 0.6 * style.hair_volume
    outer = [(0.5, -1.35), (1.0, -1.05), (wide + 0.1, -0.4), (wide + 0.22, low * 0.6)]
    inner = [(1.0, low + 0.1), (0.97, 0.8), (0.93, 0.1), (0.9, -0.6)]
    outline = [*outer, (wide + 0.15, low), *((x - cover, y) for x, y in inner)]
    return face.pose.lean(smooth([(side * x, y) for x, y in outline]))


def draw_hair(canvas: Canvas, face: Face) -> None:
    """Draws the hair over the forehead and, where long, down the sides, with a soft shadow."""
    style, colour = face.style, face.look.hair
    if style.bald:
        return
    layers = [(front_hair(face), colour)]
    if style.hair_length > 0:
        layers += [(falling_hair(face, side), darker(colour, 0.9)) for side in (-1, 1)]
    skin = face_outline(face)
    for outline, _ in layers:
        shadow = shifted(outline, 0.0, 0.06)
        canvas.fill(shadow, HAIR_SHADOW, blur=0.06, opacity=0.35, within=skin)
    for outline, shade in layers:
        canvas.fill(outline, shade, "hair", texture=canvas.strands, lit=0.5)


def draw_hat(canvas: Canvas, face: Face) -> None:
    """Draws a hat with a band, over hair and forehead."""
    lean, colour = face.pose.lean, face.look.hat
    low = face.style.hairline * 0.3 - 0.5
    half = [(0.0, -2.15), (0.6, -2.0), (1.08, -1.4), (1.12, -0.72), (0.6, low - 0.08), (0.0, low)]
    dome = lean(smooth(mirrored(half)))
    shadow, skin = shifted(dome, 0.0, 0.08), face_outline(face)
    canvas.fill(shadow, BLACK, opacity=0.4, blur=0.06, within=skin)
    canvas.fill(dome, colour, "hat", lit=0.4, texture=canvas.grain)
    half = [(0.0, low - 0.25), (1.1, -1.0), (1.12, -0.75), (0.0, low + 0.02)]
    canvas.fill(lean(smooth(mirrored(half))), darker(colour, 0.6), "hat", lit=0.4)


def draw_glasses(canvas: Canvas, face: Face) -> None:
    """Draws glasses, whose frame and dark lenses hide what is under them."""
    style, colour, turn = face.style, face.look.frame, face.pose.turn
    width, gap = style.frame_width, 0.5 - style.lens[0]
    for side in (-1.0, 1.0):
        lens = turn(ellipse(side * 0.5, 0.03, *style.lens, 2.8), 0.1)
        if style.sunglasses:
            canvas.fill(lens, darker(colour, 0.25), "eye_g", lit=0.4)
        glare = lens * 0.6 + 0.4 * lens[20]
        canvas.fill(glare, WHITE, opacity=0.13, blur=0.08, within=lens, lit=0.0)
        rim = ribbon(np.concatenate([lens, lens[:2]]), width)
        temple = np.array([(side * (0.98 - gap), -0.08), (side * 1.0, -0.12)])
        canvas.fill(rim, colour, "eye_g", lit=0.3)
        canvas.fill(ribbon(turn(temple, 0.05), width), colour, "eye_g", lit=0.3)
    bridge = turn(smooth([(-gap, -0.02), (0.0, -0.08), (gap, -0.02)], closed=False), 0.1)
    canvas.fill(ribbon(bridge, width), colour, "eye_g", lit=0.3)


def photograph(image: Floats, face: Face, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Adds the camera's tint, blur and sensor noise: float32 [H, W, 3] -> uint8 [H, W, 3]."""
    tinted = np.clip(image * np.asarray(face.look.tint, dtype=np.float32), 0, 255)
    blurred = Image.fromarray(tinted.astype(np.uint8))
    if face.look.greyscale:
        blurred = blurred.convert("L").convert("RGB")
    radius = face.look.blur * face.pose.scale_px
    if radius > MIN_BLUR_PX:
        blurred = blurred.filter(ImageFilter.GaussianBlur(radius))
    grain = rng.standard_normal(image.shape[:2], dtype=np.float32) * np.float32(face.look.noise)
    noisy = np.asarray(blurred) + grain[..., None]
    return np.asarray(np.clip(noisy, 0, 255).astype(np.uint8))
