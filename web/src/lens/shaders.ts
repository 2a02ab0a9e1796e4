/** Coordinates of all pictures run from 0 to 1 with y down: the first row of a texture is the top. */

/** For pictures that are read back: their first row is the top. */
export const OFFSCREEN_VERTEX = `
in vec2 corner;
out vec2 at; // in the target, y down

void main() {
  gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
  at = corner;
}`;

/** A canvas's y points up. */
export const SCREEN_VERTEX = `
in vec2 corner;
out vec2 at; // in the view, y down

void main() {
  gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
  at = vec2(corner.x, 1.0 - corner.y);
}`;

export const ARTIFACT_FRAGMENT = `
precision highp float;

uniform sampler2D frame;
uniform mat4 sensorFromArtifact;
uniform mat4 textureFromSensor;
in vec2 at;
out vec4 color;

void main() {
  vec2 sensor = (sensorFromArtifact * vec4(at, 0.0, 1.0)).xy;
  sensor = 1.0 - abs(1.0 - abs(sensor)); // beyond its edges the frame goes on as its mirror image
  color = vec4(texture(frame, (textureFromSensor * vec4(sensor, 0.0, 1.0)).xy).rgb, 1.0);
}`;

export const SCREEN_FRAGMENT = `
precision highp float;

uniform sampler2D frame;
uniform sampler2D result;
uniform mat4 sensorFromView;
uniform mat4 artifactFromView;
uniform mat4 textureFromSensor;
uniform float low;
uniform float range;
uniform float amount; // of the network's change, 0 to 1
uniform float divider; // in parts of the view's width
uniform float viewWidth; // pixels
uniform float halfLine; // pixels
in vec2 at;
out vec4 color;

bool inside(vec2 point) {
  return all(greaterThanEqual(point, vec2(0.0))) && all(lessThanEqual(point, vec2(1.0)));
}

// At its ends it is one of the two, bit for bit: without rounding, and whatever the other one holds.
vec3 blended(vec3 raw, vec3 restored) {
  if (amount <= 0.0) {
    return raw;
  }
  if (amount >= 1.0) {
    return restored;
  }
  return raw + amount * (clamp(restored, 0.0, 1.0) - raw);
}

void main() {
  vec2 sensor = (sensorFromView * vec4(at, 0.0, 1.0)).xy;
  vec2 artifact = (artifactFromView * vec4(at, 0.0, 1.0)).xy;
  vec3 raw = texture(frame, (textureFromSensor * vec4(sensor, 0.0, 1.0)).xy).rgb;
  vec3 restored = (texture(result, artifact).rgb - low) / range;
  vec3 picture = at.x < divider ? raw : blended(raw, restored);
  if (!inside(sensor) || !inside(artifact)) {
    picture = vec3(0.0);
  }
  if (divider > 0.0 && divider < 1.0 && abs(at.x - divider) * viewWidth < halfLine) {
    picture = vec3(1.0);
  }
  color = vec4(picture, 1.0);
}`;
