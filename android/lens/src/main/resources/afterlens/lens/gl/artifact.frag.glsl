precision highp float;

uniform FRAME_SAMPLER frame;
uniform mat4 sensorFromArtifact;
uniform mat4 textureFromSensor;
in vec2 at;
layout(location = 0) out vec4 color;

void main() {
    vec2 sensor = (sensorFromArtifact * vec4(at, 0.0, 1.0)).xy;
    sensor = 1.0 - abs(1.0 - abs(sensor)); // beyond its edges the frame goes on as its mirror image
    color = vec4(texture(frame, (textureFromSensor * vec4(sensor, 0.0, 1.0)).xy).rgb, 1.0);
}
