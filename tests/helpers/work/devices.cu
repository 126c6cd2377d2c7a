// Kernels that GPU-marked tests evaluate: what a row asks for, it gets.

extern "C" __global__ void doubled(const double* X, double* y, int n)
{
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= n) return;
    double x = X[2 * row], todo = X[2 * row + 1];
    if (todo == 2.0) *(volatile double*)(unsigned long long)8 = x;  // an illegal address
    if (todo == 3.0) for (volatile int k = 0; k >= 0;) { }          // hangs
    y[row] = 2.0 * x;
}
