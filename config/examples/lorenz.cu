// The largest Lyapunov exponent of Lorenz systems, one for each row (rho, sigma): as lorenz.py, in one kernel.

#define BETA (8.0 / 3.0)
#define STEP 0.01
#define SETTLING 500
#define STEPS 1500

__device__ static void rate(const double* s, double rho, double sigma, double* r)
{
    r[0] = sigma * (s[1] - s[0]);
    r[1] = s[0] * (rho - s[2]) - s[1];
    r[2] = s[0] * s[1] - BETA * s[2];
    r[3] = sigma * (s[4] - s[3]);
    r[4] = s[3] * (rho - s[2]) - s[0] * s[5] - s[4];
    r[5] = s[3] * s[1] + s[0] * s[4] - BETA * s[5];
}

extern "C" __global__ void exponent(const double* X, double* exponent, int n)
{
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= n) return;
    double rho = X[2 * row], sigma = X[2 * row + 1];
    double s[6] = {1.0, 1.0, 20.0, 1.0, 0.0, 0.0}, t[6], a[6], b[6], c[6], d[6], growth = 0.0;
    for (int step = 0; step < SETTLING + STEPS; ++step) {
        rate(s, rho, sigma, a);
        for (int k = 0; k < 6; ++k) t[k] = s[k] + STEP / 2 * a[k];
        rate(t, rho, sigma, b);
        for (int k = 0; k < 6; ++k) t[k] = s[k] + STEP / 2 * b[k];
        rate(t, rho, sigma, c);
        for (int k = 0; k < 6; ++k) t[k] = s[k] + STEP * c[k];
        rate(t, rho, sigma, d);
        for (int k = 0; k < 6; ++k) s[k] += STEP / 6 * (a[k] + 2 * b[k] + 2 * c[k] + d[k]);
        double length = sqrt(s[3] * s[3] + s[4] * s[4] + s[5] * s[5]);
        for (int k = 3; k < 6; ++k) s[k] /= length;
        if (step >= SETTLING) growth += log(length);
    }
    exponent[row] = growth / (STEPS * STEP);
}
